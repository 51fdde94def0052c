-- All objects of a bucket follow a change of its settings, if it is still the last one.
-- ARGV[1]: its stamp. Answers 1, or 0 if it is not the last one.
if settings_stamp(redis.call('HGET', BUCKET, 'settings')) ~= tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', BUCKET, 'followed', ARGV[1])
return 1
