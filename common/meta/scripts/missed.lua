-- Records without an object that a putter lacks.
-- ARGV: node, stamp behind which, how many.
-- Answers the members.
local from = ARGV[1] .. ' '
local low = ARGV[2] == '' and '[' .. from or '(' .. from .. ARGV[2] .. '!'
return redis.call('ZRANGEBYLEX', MISSED, low, '(' .. ARGV[1] .. '!', 'LIMIT', 0, ARGV[3])
