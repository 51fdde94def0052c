-- Records without an object that putters lack.
-- ARGV, for each: '<node> <stamp of 20 digits>'; bytes of the record; '<node,node…|-> <record>'.
-- Answers for each: 1.
for i = 1, #ARGV, 3 do
  local from, bytes = ARGV[i], tonumber(ARGV[i + 1])
  local held = redis.call('ZRANGEBYLEX', MISSED, '[' .. from .. ' ', '(' .. from .. '!',
    'LIMIT', 0, 1)
  if #held == 0 then
    redis.call('ZADD', MISSED, 0, from .. ' ' .. ARGV[i + 2])
    count_missing(string.match(from, '^%S+'), 1, bytes)
  end
end
return string.rep('1', #ARGV / 3)
