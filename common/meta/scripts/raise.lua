-- Higher ceilings.
-- ARGV: random word, epoch, the three ceilings.
-- Answers 1, or 0 if the epoch is not the present and established one.
local epoch, failure = present_epoch(ARGV[1])
if not epoch then
  return failure
elseif epoch ~= ARGV[2] or redis.call('HGET', COUNTERS, 'epoch') ~= epoch then
  return 0
end
for i, kind in ipairs(KINDS) do
  local ceiling = kind .. '.ceiling'
  redis.call('HSET', COUNTERS, ceiling, int(math.max(number(ceiling), tonumber(ARGV[2 + i]))))
end
return 1
