-- What every script of the counters starts with: which run of the coordinator this is.
-- The run id of the server that owns the counters changes whenever they may have lost their last
-- seconds: restart, failover, a slot that moved. A server without INFO keeps a random word in the
-- database itself, which at least a wipe changes.
local COUNTERS = KEYS[1]
local KINDS = { 'tickets', 'objects', 'stamps' }

local function int(number)
  return string.format('%.0f', number)
end

local function number(field)
  return tonumber(redis.call('HGET', COUNTERS, field) or 0)
end

-- The present epoch, or nil and the server's error.
local function present_epoch(random_word)
  local info = redis.pcall('INFO', 'server')
  if type(info) == 'string' then
    return string.match(info, 'run_id:(%w+)')
  elseif not string.find(string.lower(tostring(info.err)), 'unknown command', 1, true) then
    return nil, info
  end
  redis.call('HSETNX', COUNTERS, 'born', random_word)
  return redis.call('HGET', COUNTERS, 'born')
end
