-- What every script starts with that changes what putters hold too much.

-- From when on a node may free what it holds too much of an object, in ms, or nil if nothing.
local function surplus_of(node, id)
  local from = node .. ' ' .. id
  local found = redis.call('ZRANGEBYLEX', SURPLUS, '[' .. from .. ' ', '(' .. from .. '!')
  return found[1] and tonumber(string.match(found[1], '(%d+)$'))
end

-- The same from now on; nil for nothing.
local function set_surplus(node, id, free_after)
  local held = surplus_of(node, id)
  if held then
    redis.call('ZREM', SURPLUS, table.concat({ node, id, int(held) }, ' '))
  end
  if free_after then
    redis.call('ZADD', SURPLUS, 0, table.concat({ node, id, int(free_after) }, ' '))
  end
end
