-- What every script starts with that changes or tells what the names of a bucket hold in all. It is
-- counted with the versions of the bucket, where its settings are.
local COUNTED = string.sub(FILES, -7) == ':@files' and KEYS[23] or BUCKET
local counted = redis.call('HMGET', COUNTED, 'use', 'quota', 'versioning')
local use_files, use_bytes = string.match(counted[1] or '', '^(%d+) (%d+)$')
local use_changed = false

-- The bytes of the version in a file value; nil if it is none, or a delete marker. They stand first
-- in the array behind the etag.
local function bytes_of(value)
  local length, at = string.match(value or '', '^v %d+ %S+ (%d+)/?%S* ()')
  if not length or length == '0' then
    return nil
  end
  at = at + length
  at = at + (string.byte(value, at) == 0xdc and 3 or 1)
  local first = string.byte(value, at)
  if first < 0x80 then
    return first
  end
  local bytes = 0
  for i = at + 1, at + 2 ^ (first - 0xcc) do
    bytes = bytes * 256 + string.byte(value, i)
  end
  return bytes
end

local function count(value, sign)
  local bytes = bytes_of(value)
  if bytes then
    use_files, use_bytes = use_files + sign, use_bytes + sign * bytes
    use_changed = true
  end
end

-- From what the names hold: once, for a bucket that was written before anybody counted.
local function count_all(HOLDING, VALUES)
  for first = 0, redis.call('ZCARD', HOLDING) - 1, 1000 do
    local some = redis.call('ZRANGE', HOLDING, first, first + 999)
    for _, value in ipairs(redis.call('HMGET', VALUES, unpack(some))) do
      count(value, 1)
    end
  end
end

if use_files then
  use_files, use_bytes = tonumber(use_files), tonumber(use_bytes)
else
  use_files, use_bytes = 0, 0
  count_all(NAMES, FILES)
  count_all(KEYS[20], KEYS[19])
  use_changed = redis.call('EXISTS', NAMES, KEYS[20]) > 0 -- delete markers alone are kept as 0, too
end

-- A name holds another file value; this is the only way to change what counts.
local function put_file(key, before, value)
  redis.call('HSET', FILES, key, value)
  count(before, -1)
  count(value, 1)
end

-- At the end of a script.
local function keep_use()
  if use_changed then
    redis.call('HSET', COUNTED, 'use', int(use_files) .. ' ' .. int(use_bytes))
  end
end

-- Whether a quota refuses that a name holds this version instead of what it held. What does not
-- grow is never refused.
local function over_quota(before, value)
  local bytes = counted[2] and bytes_of(value)
  if not bytes then
    return false
  end
  local bytes_max, files_max = string.match(counted[2], '^(%d+) (%d+)$')
  local held = bytes_of(before)
  local more = bytes - (held or 0)
  bytes_max, files_max = tonumber(bytes_max), tonumber(files_max)
  return bytes_max > 0 and more > 0 and use_bytes + more > bytes_max
    or files_max > 0 and not held and use_files + 1 > files_max
end

