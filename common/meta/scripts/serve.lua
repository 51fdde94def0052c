-- The bucket is complete in this run of its server.
-- ARGV[1]: the run, or '' for the present one. Answers the present run; marked if it is that one.
local run = present_run()
if ARGV[1] == '' or ARGV[1] == run then
  redis.call('HSET', BUCKET, 'run', run)
end
return run
