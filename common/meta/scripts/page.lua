-- Names in the order of bytes.
-- ARGV: lowest and highest, how many.
return redis.call('ZRANGEBYLEX', NAMES, ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
