-- Records without an object that putters have now.
-- ARGV, for each: '<node> <stamp of 20 digits>'.
-- Answers for each: 1.
for i = 1, #ARGV do
  local from = ARGV[i]
  local held = redis.call('ZRANGEBYLEX', MISSED, '[' .. from .. ' ', '(' .. from .. '!')
  for _, member in ipairs(held) do
    redis.call('ZREM', MISSED, member)
    local _, behind = string.find(member, '^%S+ %S+ %S+ ')
    count_missing(string.match(from, '^%S+'), -1, behind - #member)
  end
end
return string.rep('1', #ARGV)
