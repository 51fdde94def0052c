-- May a bucket be served that is not marked for the present run of its server?
-- KEYS: counters, runs, buckets. ARGV: random word, bucket, run of its server, run it is marked
-- with ('-' for none), 1 if it comes into being now.
-- Answers 'yes'; 'new' if nobody ever used the bucket; 'behind' if records have to be replayed
-- first; 'lost' if its server lost it as a whole.
local RUNS, ALL = KEYS[2], KEYS[3]
local epoch, failure = present_epoch(ARGV[1])
if not epoch then
  return failure
end
local bucket, run, marked = ARGV[2], ARGV[3], ARGV[4]
local completed = redis.call('ZSCORE', RUNS, run)
if redis.call('HGET', COUNTERS, 'complete') ~= epoch or not completed then
  return 'behind'
end
if marked == '-' then
  if redis.call('SISMEMBER', ALL, bucket) == 1 then
    -- On the server of the counters it cannot be lost alone.
    if run == epoch or run == 'none' then
      return 'yes'
    end
    return 'lost'
  elseif ARGV[5] ~= '1' then
    return 'new'
  end
  redis.call('SADD', ALL, bucket)
  return 'yes'
end
-- A server that took over, gave way and took over again must have been completed once more.
local before = redis.call('ZSCORE', RUNS, marked)
if before and tonumber(before) >= tonumber(completed) then
  return 'behind'
end
return 'yes'
