-- What every script starts with that changes which records without an object putters lack.

-- How many records a putter lacks, and their bytes, by so much more or less.
local function count_missing(node, records, bytes)
  local held = redis.call('HGET', MISSING, node) or '0 0'
  local held_records, held_bytes = string.match(held, '^(%d+) (%d+)$')
  records = held_records + records
  if records > 0 then
    redis.call('HSET', MISSING, node, int(records) .. ' ' .. int(held_bytes + bytes))
  else
    redis.call('HDEL', MISSING, node)
  end
end

