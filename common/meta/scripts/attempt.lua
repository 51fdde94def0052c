-- Somebody begins to bring the coordinator up to date.
-- KEYS: counters. ARGV: random word, epoch, token.
-- Answers 1, or 0 if the epoch is not the present one.
local epoch, failure = present_epoch(ARGV[1])
if not epoch then
  return failure
elseif epoch ~= ARGV[2] then
  return 0
end
redis.call('HSET', COUNTERS, 'attempt', ARGV[3])
return 1
