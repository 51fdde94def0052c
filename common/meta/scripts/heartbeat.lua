-- A member's sign of life: taken, or refused because somebody else speaks for the node.
-- KEYS: members, fences, decisions, marks. ARGV: node, role, msgpack of the member, after how many
-- ms of silence a member is lost, instance, starts, number of the last record, 1 if it only asks
-- where nothing is known, address.
-- Answers '' and '', or why not and what is known (see common.membership.Refusal).
local MEMBERS, FENCES, DECISIONS, MARKS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local node, role, lost_ms, instance = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[5]
local starts, records, asks, address = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

if role == 'putter' then
  local held = redis.call('HGET', FENCES, node)
  local last, held_starts, held_records, last_ms, held_address =
    string.match(held or '', '^(%S+) (%d+) (%d+) (%d+) (.*)$')
  local gone = redis.call('HGET', DECISIONS, node) == 'gone'
  if gone and (records > 0 or instance == last) then
    return { 'gone', '' }
  elseif not last and not gone and asks == '1' then
    return { 'unknown', '' }
  elseif instance ~= last then
    if last and now_ms - last_ms < lost_ms and address ~= held_address then
      return { 'clone', held_address }
    elseif gone then
      redis.call('HDEL', DECISIONS, node)
      redis.call('HDEL', MARKS, node)
    elseif last and starts <= tonumber(held_starts) and tonumber(held_starts) > 0 then
      return { 'starts', held_starts }
    elseif last and records < tonumber(held_records) then
      return { 'records', held_records }
    end
    local applied = string.match(redis.call('HGET', MARKS, node) or '', '^(%d+) ')
    if applied and records < tonumber(applied) then
      return { 'records', applied }
    end
  elseif records < tonumber(held_records) then
    records = tonumber(held_records) -- signs of life may overtake each other
  end
  redis.call('HSET', FENCES, node,
    string.format('%s %.0f %.0f %.0f %s', instance, starts, records, now_ms, address))
end
redis.call('HSET', MEMBERS, node, string.format('%.0f %s %s', now_ms, role, ARGV[3]))
return { '', '' }
