-- What the operator decided of a putter.
-- KEYS: members, fences, decisions, marks. ARGV: node, 'draining', 'gone', or '' to take it back.
-- Answers 1, or 0 if nobody knows the node, or it is gone and shall drain.
local MEMBERS, FENCES, DECISIONS, MARKS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local node, decision = ARGV[1], ARGV[2]
local before = redis.call('HGET', DECISIONS, node)
local known = before or redis.call('HGET', MEMBERS, node) or redis.call('HGET', FENCES, node)
  or redis.call('HGET', MARKS, node)
if not known or (before == 'gone' and decision == 'draining') then
  return 0
end
if decision == 'gone' then
  redis.call('HDEL', MARKS, node)
elseif before == 'gone' and decision == '' then
  -- Whatever comes is taken as it is, and applied from the beginning; but not while the last one
  -- may still believe that it speaks for the node.
  redis.call('HDEL', MEMBERS, node)
  redis.call('HDEL', MARKS, node)
  local instance, rest =
    string.match(redis.call('HGET', FENCES, node) or '', '^(%S+) %d+ %d+ (%d+ .*)$')
  if instance then
    redis.call('HSET', FENCES, node, instance .. ' 0 0 ' .. rest)
  end
end
if decision == '' then
  redis.call('HDEL', DECISIONS, node)
else
  redis.call('HSET', DECISIONS, node, decision)
end
return 1
