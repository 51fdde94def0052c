-- Objects that start to be written.
-- ARGV, for each: ObjectID, router, lease in ms, object value.
-- Answers for each: b begun, or begun before by this router; x begun before by another one.
local reply, leases = {}, {}
for i = 1, #ARGV, 4 do
  local id = ARGV[i]
  local answer = 'b'
  if redis.call('HSETNX', OBJECTS, id, ARGV[i + 3]) == 1 then
    leases[#leases + 1] = int(now_ms + ARGV[i + 2])
    leases[#leases + 1] = id
  else
    local router = string.match(redis.call('HGET', OBJECTS, id), '^%a %d+ (%S+)')
    if router ~= ARGV[i + 1] then
      answer = 'x'
    end
  end
  reply[#reply + 1] = answer
end
all_at_once('ZADD', WRITING, leases)
return table.concat(reply)
