-- Objects that are writing although their lease ran out, oldest first.
-- ARGV[1]: how many at most.
-- Answers ObjectID, ms when the lease ended, object value, for each.
local reply = {}
local late =
  redis.call('ZRANGEBYSCORE', WRITING, '-inf', int(now_ms), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for i = 1, #late, 2 do
  local object = redis.call('HGET', OBJECTS, late[i])
  if object then
    reply[#reply + 1] = late[i]
    reply[#reply + 1] = late[i + 1]
    reply[#reply + 1] = object
  end
end
return reply
