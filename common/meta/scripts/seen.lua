-- All members.
-- KEYS: counters, members, decisions, marks. ARGV: random word, after how many ms of silence a
-- router is dropped: each start of a router is a member of its own, and one that was killed never
-- says good-bye.
-- Answers age in ms, what was decided or '', 1 if the records are applied in the present run of
-- the coordinator, and msgpack of the member, for each.
local MEMBERS, DECISIONS, MARKS = KEYS[2], KEYS[3], KEYS[4]
local epoch, failure = present_epoch(ARGV[1])
if not epoch then
  return failure
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {}
local all = redis.call('HGETALL', MEMBERS)
for i = 1, #all, 2 do
  local node = all[i]
  local last_ms, role, member = string.match(all[i + 1], '^(%d+) (%S+) (.*)$')
  local age_ms = math.max(0, now_ms - last_ms)
  if role == 'router' and age_ms > tonumber(ARGV[2]) then
    redis.call('HDEL', MEMBERS, node)
  else
    local replayed = string.match(redis.call('HGET', MARKS, node) or '', '^%d+ (.*)$')
    reply[#reply + 1] = string.format('%.0f', age_ms)
    reply[#reply + 1] = redis.call('HGET', DECISIONS, node) or ''
    reply[#reply + 1] = (role == 'router' or replayed == epoch) and '1' or '0'
    reply[#reply + 1] = member
  end
end
return reply
