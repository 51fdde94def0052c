-- Counters and ceilings at or above a floor, valid for the present epoch.
-- ARGV: random word, epoch, the three floors.
-- Answers 1, or 0 if the epoch is not the present one.
local epoch, failure = present_epoch(ARGV[1])
if not epoch then
  return failure
elseif epoch ~= ARGV[2] then
  return 0
end
for i, kind in ipairs(KINDS) do
  local ceiling, floor = kind .. '.ceiling', tonumber(ARGV[2 + i])
  redis.call('HSET', COUNTERS, kind, int(math.max(number(kind), floor)))
  redis.call('HSET', COUNTERS, ceiling, int(math.max(number(ceiling), floor)))
end
redis.call('HSET', COUNTERS, 'epoch', epoch)
return 1
