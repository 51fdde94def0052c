-- How many records without an object every putter lacks.
-- Answers node, '<records> <bytes>', for each.
return redis.call('HGETALL', MISSING)
