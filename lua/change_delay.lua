--- Change how long a delayed job still waits, counted from now.
--- Transition: delayed -> delayed.
--- @key delayed zset   ids that wait for their time
--- @key marker  zset   tells workers when the first delayed job is due
--- @key events  stream event stream
--- @key meta    hash   settings
--- @key active  list   read by the included settings
--- @key wait    list   read by the included promotion
--- @key prioritized zset read by the included promotion
--- @key pc      string read by the included promotion
--- @derived {prefix}{id} hash the job
--- @arg prefix   string key prefix of the queue, ends with ':'
--- @arg now_ms   int    unix milliseconds; 0 = the server's TIME
--- @arg job_id   string
--- @arg delay_ms int
--- @return 0
--- @error -1 JobNotFound the job does not exist
--- @error -3 JobNotInState the job is not delayed
--- @event delayed
--- @include clock events markers delayed

local job_key = prefix .. job_id
if redis.call('EXISTS', job_key) == 0 then
  return -1
end
local due_ms = resolve_now(now_ms) + delay_ms
-- The place in its millisecond is chosen while the job still holds its old one, as upstream.
local score = delayed_score(keys, due_ms)
if redis.call('ZREM', keys.delayed, job_id) == 0 then
  return -3
end
redis.call('HSET', job_key, 'delay', integer(delay_ms))
redis.call('ZADD', keys.delayed, integer(score), job_id)
emit(keys, 'delayed', 'jobId', job_id, 'delay', integer(due_ms))
trim_events(keys, read_meta(keys))
mark_delayed(keys)
return 0
