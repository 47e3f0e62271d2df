--- Store a job's progress and announce it.
--- @key events stream event stream
--- @key meta   hash   settings
--- @key active list   read by the included settings
--- @derived {prefix}{id} hash the job
--- @arg prefix   string key prefix of the queue, ends with ':'
--- @arg job_id   string
--- @arg progress string JSON, stored as it is
--- @return 0
--- @error -1 JobNotFound the job does not exist
--- @event progress
--- @include events

local job_key = prefix .. job_id
if redis.call('EXISTS', job_key) == 0 then
  return -1
end
redis.call('HSET', job_key, 'progress', progress)
emit(keys, 'progress', 'jobId', job_id, 'data', progress)
trim_events(keys, read_meta(keys))
return 0
