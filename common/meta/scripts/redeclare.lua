-- Decisions that records tell of, in force again where nothing is decided now.
-- KEYS: decisions, marks. ARGV: node, decision, for each. Answers how many were not in force.
local lost = 0
for at = 1, #ARGV, 2 do
  if redis.call('HSETNX', KEYS[1], ARGV[at], ARGV[at + 1]) == 1 then
    lost = lost + 1
    if ARGV[at + 1] == 'gone' then
      redis.call('HDEL', KEYS[2], ARGV[at])
    end
  end
end
return lost
