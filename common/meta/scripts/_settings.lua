-- Settings of a bucket: the highest stamp wins.
local function settings_stamp(value)
  return value and tonumber(string.match(value, '^(%d+) '))
end

local function set_field(field, value)
  if value == '' then
    redis.call('HDEL', BUCKET, field)
  else
    redis.call('HSET', BUCKET, field, value)
  end
end

-- P: these are the settings now; D: they were before; S: a later change was there first. What
-- scripts go by of them: 'Enabled', 'Suspended' or '' for how versions are kept, ';', and
-- '<bytes at most> <files at most>', 0 for any number, or ''.
local function configure(value, told)
  local stamp, held = settings_stamp(value), settings_stamp(redis.call('HGET', BUCKET, 'settings'))
  if held and held >= stamp then
    return held == stamp and 'D' or 'S'
  end
  redis.call('HSET', BUCKET, 'settings', value)
  local versioning, quota = string.match(told, '^(%a*);(.*)$')
  set_field('versioning', versioning)
  set_field('quota', quota)
  return 'P'
end

