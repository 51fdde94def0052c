-- The events that wait for a target the longest.
-- ARGV: target, how many at most. Answers the members of the outbox.
local low, high = '[' .. ARGV[1] .. ' ', '(' .. ARGV[1] .. '!'
return redis.call('ZRANGEBYLEX', EVENTS, low, high, 'LIMIT', 0, ARGV[2])
