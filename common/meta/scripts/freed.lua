-- Putters that freed what they held too much.
-- ARGV, for each: node, ObjectID, ms from which it could be freed.
-- Answers for each: 1 noted; 0 it is another surplus, or none, by now.
local function freed(node, id, free_after)
  if surplus_of(node, id) ~= tonumber(free_after) then
    return '0'
  end
  set_surplus(node, id, nil)
  local object = redis.call('HGET', OBJECTS, id) or ''
  local head, nodes, tail = string.match(object, '^([cd] %d+ %S+) (%S+) (.*)$')
  if head then
    redis.call('HSET', OBJECTS, id, table.concat({ head, without(nodes, node), tail }, ' '))
  end
  return '1'
end

local reply = {}
for i = 1, #ARGV, 3 do
  reply[#reply + 1] = freed(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
return table.concat(reply)
