-- What names hold now, and how their bucket keeps versions.
-- ARGV: keys. Answers for each 'Enabled', 'Suspended' or ''; the file value, or nil; the name of
-- the version if it is not the null version, else ''.
local versioning, reply = redis.call('HGET', BUCKET, 'versioning') or '', {}
for i = 1, #ARGV do
  local value, name = current(ARGV[i], redis.call('HGET', FILES, ARGV[i]))
  reply[i] = { versioning, value or false, name or '' }
end
return reply
