-- Readers that want an object's bytes to stay.
-- ARGV, for each: ObjectID, reader, lease in ms.
-- Answers for each: 1 held; 0 the object is not there, or its bytes may be being freed right now.
drop_silent_readers()

local function may_hold(id)
  local state = string.sub(redis.call('HGET', OBJECTS, id) or '', 1, 1)
  if state == 'c' then
    return true
  elseif state ~= 'd' then
    return false
  end
  local free_after = tonumber(redis.call('ZSCORE', TRASH, id) or 0)
  return free_after > now_ms or redis.call('HEXISTS', HOLDS, id) == 1
end

local reply = {}
for i = 1, #ARGV, 3 do
  local id = ARGV[i]
  if may_hold(id) then
    if redis.call('ZADD', READERS, int(now_ms + ARGV[i + 2]), id .. ' ' .. ARGV[i + 1]) == 1 then
      redis.call('HINCRBY', HOLDS, id, 1)
    end
    reply[#reply + 1] = '1'
  else
    reply[#reply + 1] = '0'
  end
end
return table.concat(reply)
