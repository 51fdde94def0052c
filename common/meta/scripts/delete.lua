-- Names that hold nothing from a stamp on.
-- ARGV[1]: grace in ms; ARGV[2]: how long a tombstone is remembered, in ms. Then for each: key,
-- stamp, stamp of the only version that may be deleted or 0, event as post wants it, guard.
--   guard: 'N' only if the name holds a newer version, 'A' only if there is no other one; then 'G'
--     if a lock for GOVERNANCE does not count.
-- Answers for each: P deleted, S a newer version stays, A there was nothing to delete, R the name
-- does not hold the only version that may be, or that is none which the guard lets be deleted, L a
-- lock keeps it. The stamp of a deletion that found nothing is remembered too: its record is
-- durable, so an older version that comes late must not appear.
local grace_ms, tombstone_ms = ARGV[1], ARGV[2]

-- Whether the lock of a version keeps it; one that is not understood does.
local function keeps(lock, guard)
  local mode, until_ms, hold = string.match(lock, '^([GC]?)(%d*)(H?)$')
  if not mode or hold == 'H' then
    return true
  end
  local counts = mode == 'C' or mode == 'G' and not string.find(guard, 'G', 1, true)
  return counts and tonumber(until_ms) > now_ms
end

-- Whether a version that is there is what the guard wants it to be among those of its key.
local function ranks(name, guard)
  local rank = string.match(guard, '^[NA]')
  if not rank then
    return true
  end
  local key = hidden and key_of(name) or name
  local null = redis.call('HGET', NULLS, key)
  local _, latest = current(key, null)
  if rank == 'N' then
    return latest ~= (hidden and name or nil)
  end
  local from, kept = stem(key), {}
  if any_kept then
    kept = redis.call('ZRANGEBYLEX', KEPTNAMES, '[' .. from, '(' .. from .. ':', 'LIMIT', 0, 2)
  end
  return #kept + (read_file(null) == 'v' and 1 or 0) == 1
end

local function bury(key, held, value)
  put_file(key, held, value)
  redis.call('ZADD', TOMBS, int(now_ms + tombstone_ms), key)
end

-- What comes between the version and the deletion stays, here as after a rebuild.
local function delete_version(key, stamp, of, event, guard)
  local held = redis.call('HGET', FILES, key)
  local kind, held_stamp, ids, _, lock = read_file(held)
  local buried = table.concat({ 't', int(of), int(stamp) }, ' ')
  if held == buried then
    return 'P'
  elseif kind ~= 'v' or held_stamp ~= of or not ranks(key, guard) then
    return 'R'
  elseif keeps(lock, guard) then
    return 'L'
  end
  end_claim(key)
  redis.call('ZREM', NAMES, key)
  retire(key, held_stamp, ids, held, grace_ms)
  bury(key, held, buried)
  post(event)
  return 'P'
end

local function delete(key, stamp, event, guard)
  local held = redis.call('HGET', FILES, key)
  local kind, held_stamp, ids, _, lock = read_file(held)
  if kind == 'v' then
    if held_stamp < stamp and keeps(lock, guard) then
      return 'L'
    end
    post(event)
    if held_stamp >= stamp then
      return 'S'
    end
    redis.call('ZREM', NAMES, key)
    retire(key, held_stamp, ids, held, grace_ms)
    bury(key, held, 't ' .. int(stamp))
    return 'P'
  end
  if kind == 't' and held_stamp == stamp then
    return 'P'
  end
  if held_stamp < stamp then
    bury(key, held, 'a ' .. int(stamp))
  end
  return 'A'
end

local reply = {}
for i = 3, #ARGV, 5 do
  local key, stamp, of = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local event, guard = ARGV[i + 3], ARGV[i + 4]
  if of > 0 then
    reply[#reply + 1] = delete_version(key, stamp, of, event, guard)
  else
    reply[#reply + 1] = delete(key, stamp, event, guard)
  end
end
keep_use()
return table.concat(reply)
