-- All versions of names, the newest first.
-- ARGV[1]: how many at most; ARGV[2]: only those of the first name whose number is below this, or
-- ''. Then the names.
-- Answers for each version: the position of its name, 1 if the name holds it now, the name of the
-- version or '' for the null version, its file value.
local reply, left = {}, tonumber(ARGV[1])

local function add(position, latest, name, value)
  reply[#reply + 1] = position
  reply[#reply + 1] = latest and 1 or 0
  reply[#reply + 1] = name
  reply[#reply + 1] = value
  left = left - 1
end

local function add_versions(position, key, below)
  local from = stem(key)
  local null = redis.call('HGET', NULLS, key)
  local kind, stamp = read_file(null)
  local first = newest(key)
  local null_first = kind == 'v' and not (first and countdown(string.sub(first, -16)) > stamp)
  local null_left = kind == 'v' and (not below or stamp < below)
  local low = '[' .. from
  if below then
    low = '(' .. from .. string.format('%016.0f', countdown(below))
  end
  local found = {}
  if first then
    found = redis.call('ZRANGEBYLEX', KEPTNAMES, low, '(' .. from .. ':', 'LIMIT', 0, left)
  end
  for _, name in ipairs(found) do
    if null_left and stamp > countdown(string.sub(name, -16)) then
      add(position, null_first, '', null)
      null_left = false
    end
    if left == 0 then
      return
    end
    add(position, name == first and not null_first, name, redis.call('HGET', KEPT, name))
  end
  if null_left and left > 0 then
    add(position, null_first, '', null)
  end
end

for i = 3, #ARGV do
  if left > 0 then
    add_versions(i - 2, ARGV[i], i == 3 and tonumber(ARGV[2]))
  end
end
return reply
