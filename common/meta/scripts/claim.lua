-- Names that conditional writes take for themselves until they have published.
-- ARGV, for each: key, holder, lease in ms, condition on what the name holds.
-- Answers for each: C claimed, or claimed for longer; R the condition does not hold; B it does, but
-- somebody else has the name.
drop_silent_claims()

local function claim(key, holder, lease_ms, condition)
  local kind, stamp, _, etag = read_file((current(key, redis.call('HGET', FILES, key))))
  if not holds(condition, kind, stamp, etag) then
    return 'R'
  end
  local claimant = redis.call('HGET', CLAIMANTS, key)
  if claimant and claimant ~= holder and tonumber(redis.call('ZSCORE', CLAIMS, key)) > now_ms then
    return 'B'
  end
  redis.call('HSET', CLAIMANTS, key, holder)
  redis.call('ZADD', CLAIMS, int(now_ms + lease_ms), key)
  return 'C'
end

local reply = {}
for i = 1, #ARGV, 4 do
  reply[#reply + 1] = claim(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
end
return table.concat(reply)
