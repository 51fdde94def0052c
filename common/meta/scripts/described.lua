-- What names hold, in the order of bytes.
-- ARGV: lowest and highest, how many.
-- Answers key, file value, for each.
local reply = {}
for _, key in ipairs(redis.call('ZRANGEBYLEX', NAMES, ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])) do
  reply[#reply + 1] = key
  reply[#reply + 1] = redis.call('HGET', FILES, key)
end
return reply
