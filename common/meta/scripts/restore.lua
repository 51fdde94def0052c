-- Records that a putter kept, applied by the rules of common/meta/recovery.py.
-- ARGV: grace in ms, how long a tombstone is remembered, 1 if commits may be lost. Then for each:
-- kind, key, body, about.
--   v or f (bytes not whole): file value; 'ObjectID;nodes;ranges;debts;' for each object, the debts
--     as add_debts wants them
--   t: stamp up to which versions are deleted; the tombstone's own if that is another, or ''
--   a: stamp of the version that was given up; ObjectID or ''
--   s: settings value of the bucket; what scripts go by of them, as configure wants it
--   k: access value; '' (its key is an access key id)
-- Answers for each: P applied, D known, S superseded, F given up, W waits, X conflict.
local grace_ms, tombstone_ms, anew = ARGV[1], ARGV[2], ARGV[3] == '1'

local function since(stamp)
  local held = redis.call('HGET', BUCKET, 'since')
  if not held or stamp < tonumber(held) then
    redis.call('HSET', BUCKET, 'since', int(stamp))
  end
end

local function doom(id, router, nodes, ranges)
  redis.call('HSET', OBJECTS, id, table.concat({ 'f', '0', router, nodes, ranges }, ' '))
  redis.call('ZREM', WRITING, id)
  redis.call('ZADD', TRASH, int(now_ms + grace_ms), id)
end

-- The objects that a record describes, with what is known of them.
local function look(about)
  local objects = {}
  local pattern = '([^;]+);([^;]+);([^;]+);([^;]*);'
  for id, nodes, ranges, owed in string.gmatch(about, pattern) do
    local object = { id = id, nodes = nodes, ranges = ranges, owed = owed, router = '-' }
    local held = redis.call('HGET', OBJECTS, id)
    if held then
      local state, number, router, kept, tail =
        string.match(held, '^(%a) (%d+) (%S+) (%S+) (.*)$')
      object.state, object.number, object.router = state, tonumber(number), router
      object.kept, object.tail = kept, tail
      if state == 'w' and anew then
        object.state = nil
      end
    end
    objects[#objects + 1] = object
  end
  return objects
end

-- Putters that may hold some of an object, and need not as far as other descriptions say.
local function may_free(id, nodes, named)
  for node in string.gmatch(without(nodes, named), '[^,-]+') do
    if not surplus_of(node, id) then
      set_surplus(node, id, now_ms + grace_ms)
    end
  end
end

-- Another description of an object: its nodes may hold some of it, too.
local function add_strays(object)
  local nodes = joined(object.kept, object.nodes)
  if object.state == 'c' then
    may_free(object.id, object.nodes, object.kept)
  end
  if nodes ~= object.kept then
    local value = { object.state, int(object.number), object.router, nodes, object.tail }
    redis.call('HSET', OBJECTS, object.id, table.concat(value, ' '))
  end
end

-- What becomes of a version by its objects alone, nil if they stand in no way; and whether the
-- name holds an older description of the same object.
local function judge(objects, key, stamp, held_kind, held_stamp)
  local verdict, newer = nil, false
  for _, object in ipairs(objects) do
    local state = object.state
    if state == 'w' then
      return 'W'
    elseif state == 'f' then
      verdict = 'F'
    elseif state and object.tail ~= key then
      return 'X'
    elseif state and not verdict then
      local holds = state == 'c' and held_kind == 'v' and held_stamp == object.number
      if object.number ~= stamp then
        newer = holds and object.number < stamp
        if not newer then
          add_strays(object)
        end
      end
      if not newer then
        verdict = 'D'
      end
    end
  end
  return verdict, newer
end

-- Another description of what the name holds; a truer one is told by amend.lua.
local function describe_again(key, about)
  for _, object in ipairs(look(about)) do
    if object.tail == key then
      add_strays(object)
    end
  end
  return 'D'
end

local function restore_version(kind, key, value, about)
  local _, stamp, ids = read_file(value)
  local held = redis.call('HGET', FILES, key)
  local held_kind, held_stamp, held_ids = read_file(held)
  if ids == '-' and redis.call('HEXISTS', OBJECTS, '!' .. int(stamp)) == 1 then
    return 'F'
  elseif held_kind == 'v' and held_stamp == stamp then
    return value == held and 'D' or describe_again(key, about)
  end
  local objects = look(about)
  local verdict, newer = judge(objects, key, stamp, held_kind, held_stamp)
  if not verdict and kind == 'f' and not newer then
    verdict = 'F'
  end
  if verdict == 'F' then
    for _, object in ipairs(objects) do
      if not object.state or object.state == 'f' then
        local nodes = joined(object.kept or '-', object.nodes)
        doom(object.id, object.router, nodes, joined(object.tail or '-', object.ranges))
      end
    end
  end
  if verdict then
    return verdict
  end

  for _, object in ipairs(objects) do
    local nodes = joined(object.kept or '-', object.nodes)
    local written = table.concat({ 'c', int(stamp), object.router, nodes, key }, ' ')
    redis.call('HSET', OBJECTS, object.id, written)
    redis.call('ZREM', WRITING, object.id)
    if newer and object.state == 'c' then
      may_free(object.id, object.kept, object.nodes)
    end
  end
  since(stamp)
  if held_kind and held_stamp >= stamp then
    retire(key, stamp, ids, value, grace_ms)
    return 'S'
  end
  put_file(key, held, value)
  if held_kind == 'v' and not newer then
    retire(key, held_stamp, held_ids, held, grace_ms)
  elseif held_kind == 'v' then
    drop_debts(redis.call('HKEYS', OWING), held_ids)
  elseif held_kind then
    redis.call('ZREM', TOMBS, key)
  end
  for _, object in ipairs(objects) do
    add_debts(object.id, object.owed)
  end
  redis.call('ZADD', NAMES, 0, key)
  return 'P'
end

local function restore_tombstone(key, stamp, own)
  local held = redis.call('HGET', FILES, key)
  local kind, held_stamp, ids = read_file(held)
  since(stamp)
  if kind and (held_stamp > stamp or held_stamp == stamp and kind ~= 'v') then
    return held_stamp == stamp and 'D' or 'S'
  end
  if kind == 'v' then
    redis.call('ZREM', NAMES, key)
    retire(key, held_stamp, ids, held, grace_ms)
  end
  put_file(key, held, 't ' .. int(stamp) .. (own ~= '' and ' ' .. own or ''))
  redis.call('ZADD', TOMBS, int(now_ms + tombstone_ms), key)
  return 'P'
end

local function restore_abort(key, aborted, id)
  if id == '' then
    id = '!' .. int(aborted)
  end
  local held = redis.call('HGET', OBJECTS, id)
  if not held then
    doom(id, '-', '-', '-')
    return 'P'
  end
  local state, _, router, nodes, tail = string.match(held, '^(%a) (%d+) (%S+) (%S+) (.*)$')
  if state == 'w' then
    doom(id, router, nodes, tail)
    return 'P'
  elseif state == 'f' then
    return 'D'
  end
  return 'X'
end

local reply = {}
for i = 4, #ARGV, 4 do
  local kind, key, body, about = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if kind == 't' then
    reply[#reply + 1] = restore_tombstone(key, tonumber(body), about)
  elseif kind == 'a' then
    reply[#reply + 1] = restore_abort(key, tonumber(body), about)
  elseif kind == 's' then
    reply[#reply + 1] = configure(body, about)
  elseif kind == 'k' then
    reply[#reply + 1] = rekey(key, body)
  else
    reply[#reply + 1] = restore_version(kind, key, body, about)
  end
end
keep_use()
return table.concat(reply)
