-- Settings of a bucket: the highest stamp wins.
local function settings_stamp(value)
  return value and tonumber(string.match(value, '^(%d+) '))
end

-- P: these are the settings now; D: they were before; S: a later change was there first.
local function configure(value, versioning)
  local stamp, held = settings_stamp(value), settings_stamp(redis.call('HGET', BUCKET, 'settings'))
  if held and held >= stamp then
    return held == stamp and 'D' or 'S'
  end
  redis.call('HSET', BUCKET, 'settings', value)
  if versioning == '' then
    redis.call('HDEL', BUCKET, 'versioning')
  else
    redis.call('HSET', BUCKET, 'versioning', versioning)
  end
  return 'P'
end

