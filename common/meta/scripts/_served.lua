-- What every script that serves a bucket starts with: the bucket must be complete in this run of
-- its server, or nothing is answered (see common/meta/recovery.py).
local served = redis.call('HGET', BUCKET, 'run')
local run = present_run()
if served ~= run then
  return { err = table.concat({ 'UNSERVED', run, served or '-' }, ' ') }
end
