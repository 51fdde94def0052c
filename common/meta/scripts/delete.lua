-- Names that hold nothing from a stamp on.
-- ARGV[1]: grace in ms; ARGV[2]: how long a tombstone is remembered, in ms. Then for each: key,
-- stamp.
-- Answers for each: P deleted, S a newer version stays, A there was nothing to delete. The stamp
-- of a deletion that found nothing is remembered too: its record is durable, so an older version
-- that comes late must not appear.
local grace_ms, tombstone_ms = ARGV[1], ARGV[2]

local function bury(key, kind, stamp)
  redis.call('HSET', FILES, key, kind .. ' ' .. int(stamp))
  redis.call('ZADD', TOMBS, int(now_ms + tombstone_ms), key)
end

local function delete(key, stamp)
  local held = redis.call('HGET', FILES, key)
  local kind, held_stamp, ids = read_file(held)
  if kind == 'v' then
    if held_stamp >= stamp then
      return 'S'
    end
    redis.call('ZREM', NAMES, key)
    retire(key, held_stamp, ids, held, grace_ms)
    bury(key, 't', stamp)
    return 'P'
  end
  if kind == 't' and held_stamp == stamp then
    return 'P'
  end
  if held_stamp < stamp then
    bury(key, 'a', stamp)
  end
  return 'A'
end

local reply = {}
for i = 3, #ARGV, 2 do
  reply[#reply + 1] = delete(ARGV[i], tonumber(ARGV[i + 1]))
end
return table.concat(reply)
