-- How far the records of putters are applied.
-- KEYS: counters, marks. ARGV: random word, epoch, token of the attempt or ''; then for each:
-- putter, number, epoch or ''.
-- Answers 1, or 0 if the epoch is not the present one, the attempt is over, or without one the
-- coordinator is not complete.
local MARKS = KEYS[2]
local epoch, failure = present_epoch(ARGV[1])
if not epoch then
  return failure
elseif epoch ~= ARGV[2] then
  return 0
elseif ARGV[3] == '' then
  if redis.call('HGET', COUNTERS, 'complete') ~= epoch then
    return 0
  end
elseif redis.call('HGET', COUNTERS, 'attempt') ~= ARGV[3] then
  return 0
end
for i = 4, #ARGV, 3 do
  local held = redis.call('HGET', MARKS, ARGV[i]) or '0 '
  local last, replayed = string.match(held, '^(%d+) (.*)$')
  if tonumber(ARGV[i + 1]) > tonumber(last) then
    last = ARGV[i + 1]
  end
  if ARGV[i + 2] ~= '' then
    replayed = ARGV[i + 2]
  end
  redis.call('HSET', MARKS, ARGV[i], last .. ' ' .. replayed)
end
return 1
