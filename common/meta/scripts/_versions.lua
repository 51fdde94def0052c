-- What every script starts with that looks at a bucket and at where its versions are at once: the
-- one of both that it is called for has the usual keys, the other one the last five.
local TFILES, TNAMES, TCLAIMS, TCLAIMANTS, TBUCKET = KEYS[19], KEYS[20], KEYS[21], KEYS[22],
  KEYS[23]
local hidden = string.sub(FILES, -7) == ':@files'
local NULLS = FILES
local KEPT, KEPTNAMES = TFILES, TNAMES
if hidden then
  NULLS = TFILES
  KEPT, KEPTNAMES = FILES, NAMES
end
local any_kept = redis.call('EXISTS', KEPTNAMES) == 1

-- The names of a key's versions begin with this, behind which their digits stand.
local function stem(key)
  local escaped = string.gsub(string.gsub(key, '\1', '\1\3'), '%z', '\1\2')
  return escaped .. '\1\1'
end

-- The key of a version by its name.
local function key_of(name)
  local key = string.sub(name, 1, -19)
  if not string.find(key, '\1', 1, true) then
    return key
  end
  return (string.gsub(string.gsub(key, '\1\2', '\0'), '\1\3', '\1'))
end

-- The number of a version by its name, and the other way round.
local function countdown(digits)
  return 9007199254740991 - tonumber(digits)
end

-- The name of the newest version of a key, beside the null version; nil if there is none.
local function newest(key)
  if not any_kept then
    return nil
  end
  local from = stem(key)
  local found = redis.call('ZRANGEBYLEX', KEPTNAMES, '[' .. from, '(' .. from .. ':', 'LIMIT', 0, 1)
  return found[1]
end

-- What a key holds now, which may be a delete marker: its file value, and its name if it is not the
-- null version.
local function current(key, null)
  local name = newest(key)
  if not name then
    return null
  end
  local kind, stamp = read_file(null)
  if kind == 'v' and stamp > countdown(string.sub(name, -16)) then
    return null
  end
  return redis.call('HGET', KEPT, name), name
end

