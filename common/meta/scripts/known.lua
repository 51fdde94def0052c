-- Which objects this bucket knows, in whatever state.
-- ARGV, for each: ObjectID.
-- Answers for each: 1 known; 0 not.
local reply = {}
for i = 1, #ARGV do
  reply[i] = redis.call('HEXISTS', OBJECTS, ARGV[i])
end
return table.concat(reply)
