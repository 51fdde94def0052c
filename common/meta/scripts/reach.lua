-- Putters that may get some of an object. What they get is a surplus, until they are named.
-- ARGV[1]: for how many ms. Then for each: ObjectID, node.
-- Answers for each: 1 noted; 0 the object is not written, or the node may be freeing some of it
-- right now.
local function reach(id, node)
  local object = redis.call('HGET', OBJECTS, id) or ''
  local head, kept, tail = string.match(object, '^(c %d+ %S+) (%S+) (.*)$')
  local free_after = surplus_of(node, id)
  if not head or free_after and free_after <= now_ms then
    return '0'
  end
  local nodes = joined(kept, node)
  if nodes ~= kept then
    redis.call('HSET', OBJECTS, id, table.concat({ head, nodes, tail }, ' '))
  end
  set_surplus(node, id, now_ms + ARGV[1])
  return '1'
end

local reply = {}
for i = 2, #ARGV, 2 do
  reply[#reply + 1] = reach(ARGV[i], ARGV[i + 1])
end
return table.concat(reply)
