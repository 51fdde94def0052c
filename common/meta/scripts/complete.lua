-- All records that may have been missing are applied.
-- KEYS: counters, runs. ARGV: random word, epoch, stamp, token of the attempt, further runs.
-- Answers 1, or 0 if the epoch is not the present one, or the attempt is over.
local RUNS = KEYS[2]
local epoch, failure = present_epoch(ARGV[1])
if not epoch then
  return failure
elseif epoch ~= ARGV[2] or redis.call('HGET', COUNTERS, 'attempt') ~= ARGV[4] then
  return 0
end
redis.call('HSET', COUNTERS, 'complete', epoch, 'complete.stamp', ARGV[3])
redis.call('HDEL', COUNTERS, 'attempt')
local turn = redis.call('HINCRBY', COUNTERS, 'completed', 1)
redis.call('ZADD', RUNS, turn, epoch)
for i = 5, #ARGV do
  redis.call('ZADD', RUNS, turn, ARGV[i])
end
redis.call('ZREMRANGEBYRANK', RUNS, 0, -1001)
return 1
