-- What the operator decided.
-- KEYS[1]: decisions. Answers node, decision, for each.
return redis.call('HGETALL', KEYS[1])
