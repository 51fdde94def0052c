-- A member's sign of life.
-- KEYS[1]: members. ARGV: node, role, msgpack of the member.
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], ARGV[1], now_ms .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
return 1
