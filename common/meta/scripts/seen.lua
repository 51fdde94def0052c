-- All members.
-- KEYS[1]: members. ARGV[1]: after how many ms of silence a router is dropped: each start of a
-- router is a member of its own, and one that was killed never says good-bye.
-- Answers age in ms, msgpack of the member, for each.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local last_ms, role, member = string.match(all[i + 1], '^(%d+) (%S+) (.*)$')
  local age_ms = math.max(0, now_ms - last_ms)
  if role == 'router' and age_ms > tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[1], all[i])
  else
    reply[#reply + 1] = string.format('%.0f', age_ms)
    reply[#reply + 1] = member
  end
end
return reply
