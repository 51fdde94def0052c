-- Objects that were announced, and of which nothing was ever sent.
-- ARGV, for each call: 'ObjectID,ObjectID…'.
-- Answers for each: 1.
local gone = {}
for i = 1, #ARGV do
  for id in string.gmatch(ARGV[i], '[^,]+') do
    if string.sub(redis.call('HGET', OBJECTS, id) or '', 1, 1) == 'w' then
      gone[#gone + 1] = id
    end
  end
end
all_at_once('HDEL', OBJECTS, gone)
all_at_once('ZREM', WRITING, gone)
return string.rep('1', #ARGV)
