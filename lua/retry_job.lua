--- Run a finished job again.
--- Transition: failed | completed -> wait | prioritized.
--- @key completed   zset   finished jobs
--- @key failed      zset   finished jobs
--- @key wait        list   ids ready to run
--- @key prioritized zset   ids ready to run, by priority
--- @key pc          string priority counter
--- @key active      list   read by the included settings
--- @key delayed     zset   read by the included markers
--- @key meta        hash   settings
--- @key marker      zset   wakes idle workers
--- @key events      stream event stream
--- @derived {prefix}{id} hash the job
--- @derived {parent}:dependencies set pending children, in the parent's queue
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg job_id string
--- @arg state  string failed | completed
--- @arg reset_attempts_made    int 1: forget the attempts made
--- @arg reset_attempts_started int 1: forget the attempts started
--- @return 0
--- @error -1 JobNotFound the job does not exist
--- @error -3 JobNotInState the job is not in that state
--- @event waiting
--- @include events markers ready reprocess

local job_key = prefix .. job_id
local values = redis.call('HMGET', job_key, 'priority', 'opts', 'parentKey')
if redis.call('EXISTS', job_key) == 0 then
  return -1
elseif redis.call('ZREM', keys[state], job_id) == 0 then
  return -3
end

erase_run(job_key, state)
if reset_attempts_made == 1 then
  redis.call('HDEL', job_key, 'atm')
end
if reset_attempts_started == 1 then
  redis.call('HDEL', job_key, 'ats')
end
local readable, options = pcall(cjson.decode, values[2] or '{}')
local lifo = readable and type(options) == 'table' and options.lifo == true
push_back(keys, job_id, tonumber(values[1] or 0) or 0, lifo)
local meta = read_meta(keys)
mark_ready(keys, is_blocked(keys, meta))
return_to_parent(job_key, values[3], state)
emit(keys, 'waiting', 'jobId', job_id, 'prev', state)
trim_events(keys, meta)
return 0
