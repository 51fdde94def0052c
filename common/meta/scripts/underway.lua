-- Objects that are being written.
-- ARGV[1]: how many at most.
return redis.call('ZRANGE', WRITING, 0, ARGV[1] - 1)
