-- Events that were delivered.
-- ARGV: for each its target and its number, with 16 digits. Answers for each 1, or 0 if it waited
-- no more.
local reply = {}
for i = 1, #ARGV, 2 do
  local event = ARGV[i] .. ' ' .. ARGV[i + 1]
  reply[#reply + 1] = redis.call('ZREMRANGEBYLEX', EVENTS, '[' .. event .. ' ', '(' .. event .. '!')
end
return table.concat(reply)
