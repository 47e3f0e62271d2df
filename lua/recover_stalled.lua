--- Give the jobs of dead workers back, in two phases: what was marked by the check before and still has no lock is
--- recovered; then every active job is marked. A lock's holder takes the mark off.
--- Transition: active -> wait.
--- @key stalled_check string throttles the check across workers; expires
--- @key stalled set ids marked by the check before
--- @key active list
--- @key wait list recovered jobs enter at the front, prioritized ones too
--- @key prioritized zset
--- @key schedulers zset ids of job schedulers
--- @key marker zset
--- @key delayed zset
--- @key events stream
--- @key meta hash settings
--- @derived {prefix}{id} hash one job
--- @derived {prefix}{id}:lock string token of the worker that runs the job
--- @derived {prefix}repeat:{id} hash job scheduler
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg now_ms int unix milliseconds; 0 = the server's TIME
--- @arg max_stalled_count int a job that stalls more often is failed by the worker that takes it next
--- @arg interval_ms int no other check within this time
--- @arg resume int 1 = go on with a check whose call before reached its bound
--- @return [recovered ids, 1 if the check must be resumed else 0]
--- @event waiting stalled
--- @include clock intact memory recover

check_intact(keys)
write_even_when_full(prefix)
if resume == 0 and not redis.call('SET', keys.stalled_check, integer(resolve_now(now_ms)), 'PX', interval_ms, 'NX') then
  return { {}, 0 }
end
local meta = read_meta(keys)
trim_events(keys, meta)
local recovered, unfinished = recover_marked(keys, meta, max_stalled_count)
if not unfinished then
  mark_active(keys)
end
return { recovered, unfinished and 1 or 0 }
