-- What may be freed of objects that stay; what does not stay is the janitor's, and forgotten.
-- ARGV: '<node> <ObjectID>' behind which, or '' from the start; how many to look at; nodes that are
-- passed over.
-- Answers the last '<node> <ObjectID>' that was looked at, '' at the end; and node, ObjectID, ms
-- from which, key, file value, for each that nobody reads.
drop_silent_readers()
local low, left = ARGV[1] == '' and '-' or '(' .. ARGV[1] .. '!', tonumber(ARGV[2])
local reply, absent = { '' }, {}
for i = 3, #ARGV do
  absent[ARGV[i]] = true
end

local function look(member)
  local node, id, free_after = string.match(member, '^(%S+) (%S+) (%d+)$')
  if absent[node] then
    return '(' .. node .. '!'
  end
  left = left - 1
  reply[1] = node .. ' ' .. id
  if tonumber(free_after) <= now_ms then
    local key, value = holder(id)
    if not key then
      redis.call('ZREM', SURPLUS, member)
    elseif redis.call('HEXISTS', HOLDS, id) == 0 then
      for _, word in ipairs({ node, id, free_after, key, value }) do
        reply[#reply + 1] = word
      end
    end
  end
  return '(' .. member
end

while left > 0 do
  local found = redis.call('ZRANGEBYLEX', SURPLUS, low, '+', 'LIMIT', 0, math.min(left, 64))
  if #found == 0 then
    reply[1] = ''
    break
  end
  for _, member in ipairs(found) do
    low = look(member)
    if absent[string.match(member, '^%S+')] then
      break
    end
  end
end
return reply
