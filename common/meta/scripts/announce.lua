-- Objects of one ticket each that may come to be written.
-- ARGV, for each announcement: router, lease in ms, nodes, first ticket, 'ObjectID,ObjectID…'.
-- Answers for each: b begun, or begun before by this router; x one begun before by another router.
local reply, leases = {}, {}
for i = 1, #ARGV, 5 do
  local router, ticket, answer = ARGV[i], tonumber(ARGV[i + 3]), 'b'
  local head = table.concat({ 'w 0 ', router, ' ', ARGV[i + 2], ' ' })
  local lease_end = int(now_ms + ARGV[i + 1])
  for id in string.gmatch(ARGV[i + 4], '[^,]+') do
    if redis.call('HSETNX', OBJECTS, id, head .. int(ticket) .. '+1') == 1 then
      leases[#leases + 1] = lease_end
      leases[#leases + 1] = id
    elseif string.match(redis.call('HGET', OBJECTS, id), '^%a %d+ (%S+)') ~= router then
      answer = 'x'
    end
    ticket = ticket + 1
  end
  reply[#reply + 1] = answer
end
all_at_once('ZADD', WRITING, leases)
return table.concat(reply)
