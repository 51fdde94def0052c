-- Objects that are not freed for a while.
-- ARGV, for each: ObjectID, for how many ms.
-- Answers for each: 1.
for i = 1, #ARGV, 2 do
  redis.call('ZADD', TRASH, 'XX', int(now_ms + ARGV[i + 1]), ARGV[i])
end
return string.rep('1', #ARGV / 2)
