-- Signs of life of objects that are being written.
-- ARGV, for each: ObjectID, lease in ms, acked, nodes, ranges; the last two may be '', which leaves
-- what is there.
-- Answers for each: 1 noted; 0 the object is not writing.
local reply = {}
for i = 1, #ARGV, 5 do
  local id = ARGV[i]
  local object = redis.call('HGET', OBJECTS, id) or ''
  local acked, router, nodes, ranges = string.match(object, '^w (%d+) (%S+) (%S+) (.*)$')
  if acked then
    if tonumber(ARGV[i + 2]) > tonumber(acked) then
      acked = ARGV[i + 2]
    end
    if ARGV[i + 3] ~= '' then
      nodes = ARGV[i + 3]
    end
    if ARGV[i + 4] ~= '' then
      ranges = ARGV[i + 4]
    end
    redis.call('HSET', OBJECTS, id, table.concat({ 'w', acked, router, nodes, ranges }, ' '))
    redis.call('ZADD', WRITING, int(now_ms + ARGV[i + 1]), id)
    reply[#reply + 1] = '1'
  else
    reply[#reply + 1] = '0'
  end
end
return table.concat(reply)
