-- How much every putter lacks.
-- Answers node, '<objects> <bytes>', for each.
return redis.call('HGETALL', OWING)
