--- Remove a job scheduler, and its pending job unless that is ready or running.
--- Transition: delayed -> removed.
--- @key schedulers zset scheduler id -> time of its pending iteration
--- @key delayed zset ids that wait for their time
--- @key events stream
--- @key meta hash settings
--- @key active list read by the included settings
--- @derived {prefix}repeat:{id} hash the scheduler
--- @derived {prefix}repeat:{id}:{ms} hash its pending iteration, and the keys below it
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg scheduler_id string
--- @return 1 removed, 0 there was none
--- @event removed
--- @include clock keys events meta

local slot = redis.call('ZSCORE', keys.schedulers, scheduler_id)
if not slot then
  return 0
end
local job_id = 'repeat:' .. scheduler_id .. ':' .. integer(tonumber(slot))
if redis.call('ZREM', keys.delayed, job_id) == 1 then
  delete_job_keys(prefix .. job_id)
  emit(keys, 'removed', 'jobId', job_id, 'prev', 'delayed')
  trim_events(keys, read_meta(keys))
end
redis.call('ZREM', keys.schedulers, scheduler_id)
redis.call('DEL', prefix .. 'repeat:' .. scheduler_id)
return 1
