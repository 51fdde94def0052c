-- Access keys: the highest stamp wins.
-- P: the key is this now; D: it was before; S: a later change was there first.
local function rekey(name, value)
  local held = redis.call('HGET', ACCESS, name)
  local stamp = tonumber(string.match(value, '^(%d+) '))
  local last = held and tonumber(string.match(held, '^(%d+) '))
  if last and last >= stamp then
    return last == stamp and 'D' or 'S'
  end
  redis.call('HSET', ACCESS, name, value)
  return 'P'
end

