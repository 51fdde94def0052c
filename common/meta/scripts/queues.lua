-- What waits in the outbox of a bucket.
-- Answers target, how many events wait, how many had to go, for each target.
local reply, seen, at = {}, {}, '-'

local function add(target, waiting)
  reply[#reply + 1] = target
  reply[#reply + 1] = waiting
  reply[#reply + 1] = tonumber(redis.call('HGET', OUTBOX, target) or 0)
end

while true do
  local found = redis.call('ZRANGEBYLEX', EVENTS, at, '+', 'LIMIT', 0, 1)
  if not found[1] then
    break
  end
  local target = string.match(found[1], '^(%S+) ')
  at = '(' .. target .. '!'
  add(target, redis.call('ZLEXCOUNT', EVENTS, '[' .. target .. ' ', at))
  seen[target] = true
end
for _, target in ipairs(redis.call('HKEYS', OUTBOX)) do
  if target ~= '#' and not seen[target] then
    add(target, 0)
  end
end
return reply
