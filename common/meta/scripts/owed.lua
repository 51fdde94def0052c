-- What a putter lacks of objects that names hold; what no name holds any more is forgotten.
-- ARGV: node, ObjectID behind which, how many to look at.
-- Answers the last ObjectID that was looked at, '' at the end; and ObjectID, key, file value, for
-- each that was found.
local from, limit = ARGV[1] .. ' ', tonumber(ARGV[3])
local low = ARGV[2] == '' and '[' .. from or '(' .. from .. ARGV[2] .. '!'
local reply = { '' }
local found = redis.call('ZRANGEBYLEX', OWED, low, '(' .. ARGV[1] .. '!', 'LIMIT', 0, limit)
for i, member in ipairs(found) do
  local id = string.match(member, '^%S+ (%S+)')
  local key, value = holder(id)
  if key then
    reply[#reply + 1] = id
    reply[#reply + 1] = key
    reply[#reply + 1] = value
  else
    drop_debt(member)
  end
  if i == limit then
    reply[1] = id
  end
end
return reply
