--- Make delayed jobs ready now, those due first, a slice per call. As upstream all go to the wait list, whatever their
--- priority, and keep their `delay` field.
--- Transition: delayed -> wait.
--- @key delayed zset   ids that wait for their time
--- @key wait    list   ids ready to run
--- @key active  list   read by the included settings
--- @key meta    hash   settings
--- @key marker  zset   wakes idle workers
--- @key events  stream event stream
--- @arg limit int jobs per call
--- @return jobs moved; < limit: nothing is left
--- @event waiting
--- @include events markers

local job_ids = redis.call('ZRANGE', keys.delayed, 0, limit - 1)
if #job_ids == 0 then
  return 0
end
for _, job_id in ipairs(job_ids) do
  emit(keys, 'waiting', 'jobId', job_id, 'prev', 'delayed')
end
redis.call('ZREM', keys.delayed, unpack(job_ids))
redis.call('LPUSH', keys.wait, unpack(job_ids))
local meta = read_meta(keys)
mark_ready(keys, is_blocked(keys, meta))
trim_events(keys, meta)
return #job_ids
