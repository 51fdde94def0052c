-- Access keys.
-- ARGV: access key ids. Answers the access value of each, nil for one that was never heard of; of
-- none: all that there are, each behind its id.
if #ARGV == 0 then
  return redis.call('HGETALL', ACCESS)
end
return redis.call('HMGET', ACCESS, unpack(ARGV))
