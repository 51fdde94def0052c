-- Every bucket that was ever written to.
-- KEYS: counters, buckets. ARGV: random word.
local epoch, failure = present_epoch(ARGV[1])
if not epoch then
  return failure
elseif redis.call('HGET', COUNTERS, 'complete') ~= epoch then
  return { err = 'UNSERVED ' .. epoch .. ' -' }
end
return redis.call('SMEMBERS', KEYS[2])
