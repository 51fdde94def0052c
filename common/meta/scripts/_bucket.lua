-- What every script of a bucket starts with: the names of its keys, the time, the shapes of values.
-- See common/meta/schema.py for the key map. Every script answers one character per item.
local FILES, NAMES, TOMBS, VERSIONS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local OBJECTS, WRITING, TRASH = KEYS[5], KEYS[6], KEYS[7]
local READERS, HOLDS, BUCKET = KEYS[8], KEYS[9], KEYS[10]
local CLAIMS, CLAIMANTS = KEYS[11], KEYS[12]
local OWED, OWING, SURPLUS = KEYS[13], KEYS[14], KEYS[15]
local MISSED, MISSING, ACCESS = KEYS[16], KEYS[17], KEYS[18]
local EVENTS, OUTBOX = KEYS[24], KEYS[25]

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function int(number)
  return string.format('%.0f', number)
end

-- One command for many members, in portions that fit on Lua's stack: a call costs more than what
-- it does.
local function all_at_once(command, key, words)
  for first = 1, #words, 2000 do
    redis.call(command, key, unpack(words, first, math.min(first + 1999, #words)))
  end
end

-- kind, stamp, ObjectIDs, etag, lock of a file value; nil for a name that was never heard of.
local function read_file(value)
  if not value then
    return nil, 0
  end
  local kind, stamp, ids, length, lock, at =
    string.match(value, '^(v) (%d+) (%S+) (%d+)/?(%S*) ()')
  if not kind then
    kind, stamp = string.match(value, '^(%a) (%d+)')
    return kind, tonumber(stamp)
  end
  return kind, tonumber(stamp), ids, string.sub(value, at, at + length - 1), lock
end

-- Nodes, or ranges, of both lists, each once; '-' or '' is an empty one.
local function joined(one, other)
  if one == '-' or one == '' or one == other then
    return other ~= '' and other or '-'
  elseif other == '-' or other == '' then
    return one
  end
  local seen, all = {}, {}
  for word in string.gmatch(one .. ',' .. other, '[^,]+') do
    if not seen[word] then
      seen[word] = true
      all[#all + 1] = word
    end
  end
  table.sort(all)
  return table.concat(all, ',')
end

-- Nodes of the one list that are not in the other.
local function without(nodes, gone)
  local out, left = {}, {}
  for node in string.gmatch(gone, '[^,]+') do
    out[node] = true
  end
  for node in string.gmatch(nodes, '[^,]+') do
    if not out[node] then
      left[#left + 1] = node
    end
  end
  return #left > 0 and table.concat(left, ',') or '-'
end

-- What a putter lacks in all, by so much more or less.
local function count_debt(node, objects, bytes)
  local held = redis.call('HGET', OWING, node) or '0 0'
  local held_objects, held_bytes = string.match(held, '^(%d+) (%d+)$')
  objects = held_objects + objects
  if objects > 0 then
    redis.call('HSET', OWING, node, int(objects) .. ' ' .. int(held_bytes + bytes))
  else
    redis.call('HDEL', OWING, node)
  end
end

-- The members of OWED for what putters lack of an object: '<bytes> <node,node…>', or ''.
local function each_debt(id, owed)
  local bytes, nodes = string.match(owed, '^(%d+) (%S+)$')
  local next_node = string.gmatch(nodes or '', '[^,]+')
  return function()
    local node = next_node()
    return node and table.concat({ node, id, bytes }, ' ')
  end
end

local function add_debts(id, owed)
  for member in each_debt(id, owed) do
    if redis.call('ZADD', OWED, 0, member) == 1 then
      local node, bytes = string.match(member, '^(%S+) %S+ (%d+)$')
      count_debt(node, 1, tonumber(bytes))
    end
  end
end

-- The same for each object of a version, ended by ';'; '' for none of all.
local function add_all_debts(ids, owed)
  if owed ~= '' then
    local next_owed = string.gmatch(owed, '([^;]*);')
    for id in string.gmatch(ids, '[^,-]+') do
      add_debts(id, next_owed())
    end
  end
end

local function drop_debt(member)
  if redis.call('ZREM', OWED, member) == 1 then
    local node, bytes = string.match(member, '^(%S+) %S+ (%d+)$')
    count_debt(node, -1, -bytes)
  end
end

-- Whatever some putters lack of objects.
local function drop_debts(nodes, ids)
  for _, node in ipairs(nodes) do
    for id in string.gmatch(ids, '[^,-]+') do
      local from = node .. ' ' .. id
      local found = redis.call('ZRANGEBYLEX', OWED, '[' .. from .. ' ', '(' .. from .. '!')
      for _, member in ipairs(found) do
        drop_debt(member)
      end
    end
  end
end

-- A version that no name holds (any more): its objects are deleted, its record stays for as long
-- as one of them does. What putters lacked of it is forgotten at once, unless that are so many that
-- looking for it takes long: then when somebody asks for it.
local function retire(key, stamp, ids, value, grace_ms)
  local debtors = redis.call('HKEYS', OWING)
  if #debtors <= 16 then
    drop_debts(debtors, ids)
  end
  local version = int(stamp) .. ' ' .. key
  local free_after = int(now_ms + grace_ms)
  local count = 0
  for id in string.gmatch(ids, '[^,-]+') do
    local object = redis.call('HGET', OBJECTS, id)
    if object then
      redis.call('HSET', OBJECTS, id, 'd' .. string.sub(object, 2))
      redis.call('ZADD', TRASH, free_after, id)
      count = count + 1
    end
  end
  if count > 0 then
    redis.call('HSET', VERSIONS, version, value)
  end
  if count > 1 then
    redis.call('HSET', VERSIONS, '#' .. version, count)
  end
end

-- The name that holds an object now, and its file value; nil if none does.
local function holder(id)
  local object = redis.call('HGET', OBJECTS, id) or ''
  local stamp, key = string.match(object, '^c (%d+) %S+ %S+ (.*)$')
  local value = stamp and redis.call('HGET', FILES, key)
  local kind, held_stamp = read_file(value)
  if kind == 'v' and held_stamp == tonumber(stamp) then
    return key, value
  end
end

-- One reader less, if it is one.
local function drop_reader(member)
  if redis.call('ZREM', READERS, member) == 1 then
    local id = string.match(member, '^(%S+) ')
    local left = tonumber(redis.call('HGET', HOLDS, id) or 0) - 1
    if left > 0 then
      redis.call('HSET', HOLDS, id, left)
    else
      redis.call('HDEL', HOLDS, id)
    end
  end
end

-- Readers whose hold ended without a word.
local function drop_silent_readers()
  local silent = redis.call('ZRANGEBYSCORE', READERS, '-inf', int(now_ms), 'LIMIT', 0, 1000)
  for _, member in ipairs(silent) do
    drop_reader(member)
  end
end

-- Whether what a name holds fulfils a condition: '' none, '-' nothing, '*' anything, '=<etag>' a
-- version with this etag, '@<stamp>' the one with this stamp. A version without an etag is a delete
-- marker, which is nothing.
local function holds(condition, kind, stamp, etag)
  local something = kind == 'v' and etag ~= ''
  if condition == '' then
    return true
  elseif condition == '-' then
    return not something
  elseif condition == '*' then
    return something
  end
  return something and (condition == '=' .. etag or condition == '@' .. int(stamp))
end

-- Nobody has claimed a name any more.
local function end_claim(key)
  redis.call('ZREM', CLAIMS, key)
  redis.call('HDEL', CLAIMANTS, key)
end

-- Claims whose holders went silent.
local function drop_silent_claims()
  local silent = redis.call('ZRANGEBYSCORE', CLAIMS, '-inf', int(now_ms), 'LIMIT', 0, 1000)
  for _, key in ipairs(silent) do
    end_claim(key)
  end
end
