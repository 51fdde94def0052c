-- What every script starts with that publishes something: it may post an event.

-- Let an event wait; '' is none. '<target> <how many may wait for it> <body>'.
local function post(event)
  if event == '' then
    return
  end
  local target, most, body = string.match(event, '^(%S+) (%d+) (.*)$')
  local low, high = '[' .. target .. ' ', '(' .. target .. '!'
  local number = redis.call('HINCRBY', OUTBOX, '#', 1)
  local member = target .. ' ' .. string.format('%016.0f', number) .. ' ' .. body
  redis.call('ZADD', EVENTS, 0, member)
  local surplus = redis.call('ZLEXCOUNT', EVENTS, low, high) - most
  if surplus > 0 then
    local oldest = redis.call('ZRANGEBYLEX', EVENTS, low, high, 'LIMIT', 0, surplus)
    all_at_once('ZREM', EVENTS, oldest)
    redis.call('HINCRBY', OUTBOX, target, surplus)
  end
end

