-- A version that is described anew: its stamp and its objects stay.
-- ARGV: grace in ms; 1 if it is so in any case (a record that is replayed); key; file value that is
-- replaced; new file value; event as post wants it. Then for each object: ObjectID; what is owed of
-- it and was not before, as add_debts wants it; what was owed and is not, likewise; and the nodes
-- that get some of it, that need some of it no more, that need all of it.
-- Answers 1 done, now or before; 0 the name holds something else, or a node gets something that was
-- not reached before.
local grace_ms, forced, key, before, value = ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4], ARGV[5]
local FIRST, WORDS = 7, 6

local function all_reached(id, gaining)
  for node in string.gmatch(gaining, '[^,]+') do
    local free_after = surplus_of(node, id)
    if not free_after or free_after <= now_ms then
      return false
    end
  end
  return true
end

local function move(id, owed, paid, losing, entire)
  local object = redis.call('HGET', OBJECTS, id) or ''
  local head, kept, tail = string.match(object, '^(c %d+ %S+) (%S+) (.*)$')
  if head then
    local nodes = without(joined(kept, losing), entire)
    if nodes ~= kept then
      redis.call('HSET', OBJECTS, id, table.concat({ head, nodes, tail }, ' '))
    end
  end
  for member in each_debt(id, paid) do
    drop_debt(member)
  end
  add_debts(id, owed)
  for node in string.gmatch(entire, '[^,]+') do
    set_surplus(node, id, nil)
  end
  for node in string.gmatch(losing, '[^,]+') do
    set_surplus(node, id, now_ms + grace_ms)
  end
end

local held = redis.call('HGET', FILES, key)
if held == value then
  return 1
elseif held ~= before then
  return 0
end
for i = FIRST, #ARGV, WORDS do
  if not forced and not all_reached(ARGV[i], ARGV[i + 3]) then
    return 0
  end
end
redis.call('HSET', FILES, key, value)
post(ARGV[6])
for i = FIRST, #ARGV, WORDS do
  move(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 4], ARGV[i + 5])
end
return 1
