-- What is known of one object.
-- ARGV[1]: ObjectID.
-- Answers nil, or the object value and, for a written or deleted one, its version's file value.
local object = redis.call('HGET', OBJECTS, ARGV[1])
if not object then
  return false
end
local state, stamp, key = string.match(object, '^([cd]) (%d+) %S+ %S+ (.*)$')
if state == 'c' then
  return { object, redis.call('HGET', FILES, key) }
elseif state == 'd' then
  return { object, redis.call('HGET', VERSIONS, stamp .. ' ' .. key) }
end
return { object }
