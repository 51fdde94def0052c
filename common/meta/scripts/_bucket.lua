-- What every script of a bucket starts with: the names of its keys, the time, the shapes of values.
-- See common/meta/schema.py for the key map. Every script answers one character per item.
local FILES, NAMES, TOMBS, VERSIONS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local OBJECTS, WRITING, TRASH = KEYS[5], KEYS[6], KEYS[7]
local READERS, HOLDS, BUCKET = KEYS[8], KEYS[9], KEYS[10]
local CLAIMS, CLAIMANTS = KEYS[11], KEYS[12]

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function int(number)
  return string.format('%.0f', number)
end

-- One command for many members, in portions that fit on Lua's stack: a call costs more than what
-- it does.
local function all_at_once(command, key, words)
  for first = 1, #words, 2000 do
    redis.call(command, key, unpack(words, first, math.min(first + 1999, #words)))
  end
end

-- kind, stamp, ObjectIDs, etag of a file value; nil for a name that was never heard of.
local function read_file(value)
  if not value then
    return nil, 0
  end
  local kind, stamp, ids, length, at = string.match(value, '^(v) (%d+) (%S+) (%d+) ()')
  if not kind then
    kind, stamp = string.match(value, '^(%a) (%d+)')
    return kind, tonumber(stamp)
  end
  return kind, tonumber(stamp), ids, string.sub(value, at, at + length - 1)
end

-- A version that no name holds (any more): its objects are deleted, its record stays for as long
-- as one of them does.
local function retire(key, stamp, ids, value, grace_ms)
  local version = int(stamp) .. ' ' .. key
  local free_after = int(now_ms + grace_ms)
  local count = 0
  for id in string.gmatch(ids, '[^,-]+') do
    local object = redis.call('HGET', OBJECTS, id)
    if object then
      redis.call('HSET', OBJECTS, id, 'd' .. string.sub(object, 2))
      redis.call('ZADD', TRASH, free_after, id)
      count = count + 1
    end
  end
  if count > 0 then
    redis.call('HSET', VERSIONS, version, value)
  end
  if count > 1 then
    redis.call('HSET', VERSIONS, '#' .. version, count)
  end
end

-- One reader less, if it is one.
local function drop_reader(member)
  if redis.call('ZREM', READERS, member) == 1 then
    local id = string.match(member, '^(%S+) ')
    local left = tonumber(redis.call('HGET', HOLDS, id) or 0) - 1
    if left > 0 then
      redis.call('HSET', HOLDS, id, left)
    else
      redis.call('HDEL', HOLDS, id)
    end
  end
end

-- Readers whose hold ended without a word.
local function drop_silent_readers()
  local silent = redis.call('ZRANGEBYSCORE', READERS, '-inf', int(now_ms), 'LIMIT', 0, 1000)
  for _, member in ipairs(silent) do
    drop_reader(member)
  end
end

-- Whether what a name holds fulfils a condition: '' none, '-' nothing, '*' anything, '=<etag>' a
-- version with this etag.
local function holds(condition, kind, etag)
  if condition == '' then
    return true
  elseif condition == '-' then
    return kind ~= 'v'
  elseif condition == '*' then
    return kind == 'v'
  end
  return kind == 'v' and condition == '=' .. etag
end

-- Nobody has claimed a name any more.
local function end_claim(key)
  redis.call('ZREM', CLAIMS, key)
  redis.call('HDEL', CLAIMANTS, key)
end

-- Claims whose holders went silent.
local function drop_silent_claims()
  local silent = redis.call('ZRANGEBYSCORE', CLAIMS, '-inf', int(now_ms), 'LIMIT', 0, 1000)
  for _, key in ipairs(silent) do
    end_claim(key)
  end
end
