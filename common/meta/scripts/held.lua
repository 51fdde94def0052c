-- What names of this very bucket hold, whatever versions of theirs there are elsewhere.
-- ARGV: keys. Answers the file value of each, or nil.
return redis.call('HMGET', FILES, unpack(ARGV))
