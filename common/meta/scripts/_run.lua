-- Which run of its server a bucket is on; a server without INFO has only one.
local function present_run()
  local info = redis.pcall('INFO', 'server')
  if type(info) == 'string' then
    return string.match(info, 'run_id:(%w+)')
  end
  return 'none'
end
