-- Whether a bucket holds anything, a version or a delete marker too.
-- Answers the file value of something in it, or nil.
local names = redis.call('ZRANGE', NAMES, 0, 0)
if #names > 0 then
  return redis.call('HGET', FILES, names[1])
end
local kept = redis.call('ZRANGE', KEPTNAMES, 0, 0)
return #kept > 0 and redis.call('HGET', KEPT, kept[1])
