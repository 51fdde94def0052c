-- What names hold now; a delete marker counts as something.
-- ARGV: keys. Answers for each its file value, or nil; where it is not the null version, that and
-- the name of the version.
local reply = redis.call('HMGET', FILES, unpack(ARGV))
if any_kept then
  for i = 1, #ARGV do
    local value, name = current(ARGV[i], reply[i])
    if name then
      reply[i] = { value, name }
    end
  end
end
return reply
