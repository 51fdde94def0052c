-- Objects whose bytes are freed everywhere.
-- ARGV, for each: ObjectID.
-- Answers for each: 1.
local function forget(id)
  local object = redis.call('HGET', OBJECTS, id) or ''
  local state, stamp, key = string.match(object, '^([fd]) (%d+) %S+ %S+ (.*)$')
  if not state then
    return
  end
  redis.call('HDEL', OBJECTS, id)
  redis.call('HDEL', HOLDS, id)
  redis.call('ZREM', TRASH, id)
  if state == 'd' then
    local version = stamp .. ' ' .. key
    local left = tonumber(redis.call('HGET', VERSIONS, '#' .. version) or 1) - 1
    if left > 0 then
      redis.call('HSET', VERSIONS, '#' .. version, left)
    else
      redis.call('HDEL', VERSIONS, version, '#' .. version)
    end
  end
end

for i = 1, #ARGV do
  forget(ARGV[i])
end
return string.rep('1', #ARGV)
