--- Make a delayed job ready now.
--- Transition: delayed -> wait | prioritized.
--- @key delayed     zset   ids that wait for their time
--- @key wait        list   ids ready to run
--- @key prioritized zset   ids ready to run, by priority
--- @key pc          string priority counter
--- @key active      list   read by the included settings
--- @key meta        hash   settings
--- @key marker      zset   wakes idle workers
--- @key events      stream event stream
--- @derived {prefix}{id} hash the job; its delay becomes 0
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg job_id string
--- @return 0
--- @error -3 JobNotInState the job is not delayed
--- @event waiting
--- @include events markers ready

if redis.call('ZREM', keys.delayed, job_id) == 0 then
  return -3
end
local job_key = prefix .. job_id
push_back(keys, job_id, tonumber(redis.call('HGET', job_key, 'priority') or 0) or 0, false)
mark_ready(keys, is_blocked(keys, read_meta(keys)))
emit(keys, 'waiting', 'jobId', job_id, 'prev', 'delayed')
if redis.call('EXISTS', job_key) == 1 then
  redis.call('HSET', job_key, 'delay', 0)
end
return 0
