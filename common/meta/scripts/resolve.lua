-- What names hold.
-- ARGV: keys. Answers the file value of each, or nil.
return redis.call('HMGET', FILES, unpack(ARGV))
