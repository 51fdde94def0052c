-- Whether the coordinator is up to date.
-- KEYS: counters, marks. ARGV: random word.
-- Answers epoch, the one it was last completed in or '', the one for which the counters are
-- established or '', the stamp of the completion, the three ceilings, and the marks: putter, …
local MARKS = KEYS[2]
local epoch, failure = present_epoch(ARGV[1])
if not epoch then
  return failure
end
local reply = {
  epoch,
  redis.call('HGET', COUNTERS, 'complete') or '',
  redis.call('HGET', COUNTERS, 'epoch') or '',
  redis.call('HGET', COUNTERS, 'complete.stamp') or '0',
}
for _, kind in ipairs(KINDS) do
  reply[#reply + 1] = int(number(kind .. '.ceiling'))
end
reply[#reply + 1] = redis.call('HGETALL', MARKS)
return reply
