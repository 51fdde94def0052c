-- Consecutive numbers below the ceiling.
-- ARGV: random word, kind, count.
-- Answers {'granted', first} or {'ceiling', epoch, wanted, the three ceilings} or
-- {'unknown', epoch}.
local epoch, failure = present_epoch(ARGV[1])
if not epoch then
  return failure
elseif redis.call('HGET', COUNTERS, 'epoch') ~= epoch then
  return { 'unknown', epoch }
end
local kind, count = ARGV[2], tonumber(ARGV[3])
local first = number(kind)
if kind == 'stamps' then
  local time = redis.call('TIME')
  first = math.max(first, time[1] * 1000000 + time[2])
end
local wanted = first + count
if wanted > number(kind .. '.ceiling') then
  local reply = { 'ceiling', epoch, int(wanted) }
  for _, each in ipairs(KINDS) do
    reply[#reply + 1] = int(number(each .. '.ceiling'))
  end
  return reply
end
redis.call('HSET', COUNTERS, kind, int(wanted))
return { 'granted', int(first) }
