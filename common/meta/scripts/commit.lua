-- Versions to be published, each in one step that nobody sees half of.
-- ARGV[1]: grace in ms. Then for each: key, file value, check, nodes, debts, event.
--   check: '+' all tickets are acknowledged or '!' not, then the condition on what the name holds.
--   nodes: for each object of the version, in order and ended by ';', the nodes its extents name.
--   debts: what is owed of the objects, as add_all_debts wants it.
--   event: as post wants it, if the version is published or superseded now.
-- Answers for each: P published, S superseded, I incomplete, G gone, R refused, V not where its
-- bucket keeps versions now: if it keeps all, a null version would overwrite one, and if it does
-- not, there are no others; Q more than the quota of its bucket.
local grace_ms = ARGV[1]
local elsewhere = hidden ~= (counted[3] == 'Enabled')
if hidden then
  CLAIMS, CLAIMANTS = TCLAIMS, TCLAIMANTS -- conditions are about keys, not names of versions
end
local names, finished, first_stamp = {}, {}, nil

-- The objects of a version as {id, router, nodes that its extents do not name}; or nil and the
-- answer why the version cannot be published.
local function read_objects(ids, named, stamp)
  local objects = {}
  local next_nodes = string.gmatch(named, '([^;]*);')
  for id in string.gmatch(ids, '[^,-]+') do
    local object = redis.call('HGET', OBJECTS, id) or ''
    local state, number, router, nodes = string.match(object, '^(%a) (%d+) (%S+) (%S+)')
    if state == 'd' and tonumber(number) == stamp then
      return nil, 'S'
    elseif state ~= 'w' then
      return nil, 'G'
    end
    if nodes == next_nodes() then
      nodes = '-'
    end
    objects[#objects + 1] = { id, router, nodes }
  end
  return objects
end

local function commit(key, value, check, named, owed, event)
  local _, stamp, ids = read_file(value)
  local held = redis.call('HGET', FILES, key)
  local held_kind, held_stamp, held_ids = read_file(held)
  if held_kind == 'v' and held_stamp == stamp then
    return 'P'
  end
  local objects, answer = read_objects(ids, named, stamp)
  if not objects then
    return answer
  elseif string.sub(check, 1, 1) ~= '+' then
    return 'I'
  elseif elsewhere then
    return 'V'
  end
  local plain = check ~= '+' and (hidden and key_of(key) or key)
  if plain then
    local kind, now, _, etag = read_file((current(plain, redis.call('HGET', NULLS, plain))))
    if not holds(string.sub(check, 2), kind, now, etag) then
      return 'R'
    end
  end
  if held_stamp < stamp and over_quota(held, value) then
    return 'Q'
  elseif plain then
    end_claim(plain)
  end

  for _, object in ipairs(objects) do
    local id, router, nodes = object[1], object[2], object[3]
    redis.call('HSET', OBJECTS, id, table.concat({ 'c', int(stamp), router, nodes, key }, ' '))
    finished[#finished + 1] = id
  end
  post(event)
  if held_stamp >= stamp then
    retire(key, stamp, ids, value, grace_ms)
    return 'S'
  end
  put_file(key, held, value)
  add_all_debts(ids, owed)
  if held_kind == 'v' then
    retire(key, held_stamp, held_ids, held, grace_ms)
    return 'P'
  elseif held_kind then
    redis.call('ZREM', TOMBS, key)
  end
  if hidden then
    redis.call('ZADD', NAMES, 0, key) -- conditions of what follows here look for it
    any_kept = true
  else
    names[#names + 1] = 0
    names[#names + 1] = key
  end
  first_stamp = first_stamp or stamp
  return 'P'
end

local reply = {}
for i = 2, #ARGV, 6 do
  reply[#reply + 1] =
    commit(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
end
keep_use()
all_at_once('ZREM', WRITING, finished)
all_at_once('ZADD', NAMES, names)
if first_stamp then
  redis.call('HSETNX', BUCKET, 'since', int(first_stamp))
end
return table.concat(reply)
