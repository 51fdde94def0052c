-- How a bucket is kept.
-- Answers its settings value, the stamp of the change that its objects follow, and the stamp of its
-- first version; each may be nil.
return redis.call('HMGET', BUCKET, 'settings', 'followed', 'since')
