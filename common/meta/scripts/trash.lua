-- Objects whose bytes may be freed: failed or deleted, past their grace time, not held.
-- ARGV[1]: how many at most.
-- Answers {ObjectID, ms from which, object value, …} and {version, file value, …} for the versions
-- that the deleted ones belong to, each version once.
-- In passing, tombstones that were remembered for long enough are dropped, and old claims.
drop_silent_readers()
drop_silent_claims()
local old = redis.call('ZRANGEBYSCORE', TOMBS, '-inf', int(now_ms), 'LIMIT', 0, 4096)
for _, key in ipairs(old) do
  redis.call('HDEL', FILES, key)
  redis.call('ZREM', TOMBS, key)
end

local limit = tonumber(ARGV[1])
local held = redis.call('HLEN', HOLDS)
local ripe =
  redis.call('ZRANGEBYSCORE', TRASH, '-inf', int(now_ms), 'WITHSCORES', 'LIMIT', 0, limit + held)
local objects, versions, known = {}, {}, {}
for i = 1, #ripe, 2 do
  local id = ripe[i]
  if #objects < limit * 3 and (held == 0 or redis.call('HEXISTS', HOLDS, id) == 0) then
    local object = redis.call('HGET', OBJECTS, id)
    objects[#objects + 1] = id
    objects[#objects + 1] = ripe[i + 1]
    objects[#objects + 1] = object
    local stamp, key = string.match(object, '^d (%d+) %S+ %S+ (.*)$')
    local version = stamp and stamp .. ' ' .. key
    if version and not known[version] then
      known[version] = true
      versions[#versions + 1] = version
      versions[#versions + 1] = redis.call('HGET', VERSIONS, version)
    end
  end
end
return { objects, versions }
