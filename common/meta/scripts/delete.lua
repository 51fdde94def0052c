-- Names that hold nothing from a stamp on.
-- ARGV[1]: grace in ms; ARGV[2]: how long a tombstone is remembered, in ms. Then for each: key,
-- stamp, stamp of the only version that may be deleted or 0, event as post wants it.
-- Answers for each: P deleted, S a newer version stays, A there was nothing to delete, R the name
-- does not hold the only version that may be. The stamp of a deletion that found nothing is
-- remembered too: its record is durable, so an older version that comes late must not appear.
local grace_ms, tombstone_ms = ARGV[1], ARGV[2]

local function bury(key, value)
  redis.call('HSET', FILES, key, value)
  redis.call('ZADD', TOMBS, int(now_ms + tombstone_ms), key)
end

-- What comes between the version and the deletion stays, here as after a rebuild.
local function delete_version(key, stamp, of, event)
  local held = redis.call('HGET', FILES, key)
  local kind, held_stamp, ids = read_file(held)
  local buried = table.concat({ 't', int(of), int(stamp) }, ' ')
  if held == buried then
    return 'P'
  elseif kind ~= 'v' or held_stamp ~= of then
    return 'R'
  end
  end_claim(key)
  redis.call('ZREM', NAMES, key)
  retire(key, held_stamp, ids, held, grace_ms)
  bury(key, buried)
  post(event)
  return 'P'
end

local function delete(key, stamp, event)
  local held = redis.call('HGET', FILES, key)
  local kind, held_stamp, ids = read_file(held)
  if kind == 'v' then
    post(event)
    if held_stamp >= stamp then
      return 'S'
    end
    redis.call('ZREM', NAMES, key)
    retire(key, held_stamp, ids, held, grace_ms)
    bury(key, 't ' .. int(stamp))
    return 'P'
  end
  if kind == 't' and held_stamp == stamp then
    return 'P'
  end
  if held_stamp < stamp then
    bury(key, 'a ' .. int(stamp))
  end
  return 'A'
end

local reply = {}
for i = 3, #ARGV, 4 do
  local key, stamp, of, event = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3]
  reply[#reply + 1] = of > 0 and delete_version(key, stamp, of, event) or delete(key, stamp, event)
end
return table.concat(reply)
