--- Change a job's priority, and its place if it is ready to run.
--- Transition: wait | prioritized -> wait | prioritized.
--- @key wait        list   ids ready to run
--- @key prioritized zset   ids ready to run, by priority
--- @key pc          string priority counter
--- @key active      list   ids claimed by some worker
--- @key paused      list   ids set aside by old versions
--- @key completed   zset   finished jobs
--- @key failed      zset   finished jobs
--- @key delayed     zset   ids that wait for their time
--- @key waiting_children zset parents that wait for children
--- @key meta        hash   settings
--- @key marker      zset   wakes idle workers
--- @derived {prefix}{id} hash the job
--- @arg prefix   string key prefix of the queue, ends with ':'
--- @arg job_id   string
--- @arg priority int    0 = none: before all jobs with a priority
--- @arg lifo     int    1: first of its priority, 0: last
--- @return 0
--- @error -1 JobNotFound the job does not exist
--- @include states meta markers ready

local job_key = prefix .. job_id
if redis.call('EXISTS', job_key) == 0 then
  return -1
end

local place = find_place(keys, job_id)
if place == 'prioritized' or place == 'wait' then
  leave_place(keys, job_id)
  if priority > 0 and lifo == 1 then
    -- No marker: a job moves within its set, and whoever runs dry takes the first of it.
    push_front(keys, job_id, priority)
  else
    push_back(keys, job_id, priority, lifo == 1)
    mark_ready(keys, is_blocked(keys, read_meta(keys)))
  end
end
redis.call('HSET', job_key, 'priority', priority)
return 0
