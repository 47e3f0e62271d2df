--- Run finished jobs again, the oldest first, a slice per call. Priority and lifo do not apply: all go to the back.
--- Transition: failed | completed -> wait.
--- @key completed zset   finished jobs, by time
--- @key failed    zset   finished jobs, by time
--- @key wait      list   ids ready to run
--- @key active    list   read by the included settings
--- @key delayed   zset   read by the included markers
--- @key meta      hash   settings
--- @key marker    zset   wakes idle workers
--- @key events    stream event stream
--- @derived {prefix}{id} hash the jobs
--- @derived {parent}:dependencies set pending children, in the parent's queue
--- @arg prefix    string key prefix of the queue, ends with ':'
--- @arg now_ms    int    unix milliseconds; 0 = the server's TIME
--- @arg state     string failed | completed
--- @arg until_ms  int    only jobs that finished up to this time; -1 = now
--- @arg limit     int    jobs per call
--- @return [jobs moved, the time limit that was used]; jobs moved < limit: nothing is left
--- @event waiting
--- @include clock events markers reprocess

if until_ms < 0 then
  until_ms = resolve_now(now_ms)
end
local job_ids = redis.call('ZRANGEBYSCORE', keys[state], 0, integer(until_ms), 'LIMIT', 0, limit)
if #job_ids == 0 then
  return { 0, until_ms }
end
for _, job_id in ipairs(job_ids) do
  local job_key = prefix .. job_id
  return_to_parent(job_key, redis.call('HGET', job_key, 'parentKey'), state)
  erase_run(job_key, state)
  emit(keys, 'waiting', 'jobId', job_id, 'prev', state)
end
redis.call('ZREM', keys[state], unpack(job_ids))
redis.call('LPUSH', keys.wait, unpack(job_ids))
local meta = read_meta(keys)
mark_ready(keys, is_blocked(keys, meta))
trim_events(keys, meta)
return { #job_ids, until_ms }
