-- A member signs off.
-- KEYS: members, fences. ARGV: node, instance or '' for whichever it is.
local instance, numbers, address =
  string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^(%S+) (%d+ %d+) %d+ (.*)$')
if instance and ARGV[2] ~= '' and instance ~= ARGV[2] then
  return 0
end
if instance then
  redis.call('HSET', KEYS[2], ARGV[1], table.concat({ instance, numbers, '0', address }, ' '))
end
return redis.call('HDEL', KEYS[1], ARGV[1])
