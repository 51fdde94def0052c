-- Objects that will not be finished.
-- ARGV[1]: grace in ms. Then for each: ObjectID.
-- Answers for each: 1 failed now; 0 the object was not writing.
local reply = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local object = redis.call('HGET', OBJECTS, id) or ''
  if string.sub(object, 1, 1) == 'w' then
    redis.call('HSET', OBJECTS, id, 'f' .. string.sub(object, 2))
    redis.call('ZREM', WRITING, id)
    redis.call('ZADD', TRASH, int(now_ms + ARGV[1]), id)
    reply[#reply + 1] = '1'
  else
    reply[#reply + 1] = '0'
  end
end
return table.concat(reply)
