--- Remove the finished jobs that the next finish would remove, on a queue where nothing finishes: jobs grow old there.
--- A set goes by the rule of its newest job, as if that had finished now.
--- @key retention_check string throttles this over all workers; expires
--- @key completed zset finished jobs, by time
--- @key failed zset finished jobs, by time
--- @key wait list read by the included removal
--- @key active list read by the included settings
--- @key prioritized zset read by the included settings
--- @key pc string read by the included scores
--- @key delayed zset read by the included settings
--- @key marker zset wakes idle workers when a parent is released
--- @key events stream
--- @key meta hash settings
--- @derived {prefix}{id} hash and the keys below it
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg now_ms int unix milliseconds; 0 = the server's TIME
--- @arg interval_ms int no other trimming within this time
--- @arg resume int 1 = go on where the call before reached its bound
--- @rows rules count:int age_s:int limit:int
--- rules: the worker's, for jobs that have none; the first for completed, the second for failed ones
--- @return 1 if the call reached its bound and must be resumed, else 0
--- @include clock retention rules

local now = resolve_now(now_ms)
if resume == 0 and not redis.call('SET', keys.retention_check, integer(now), 'PX', interval_ms, 'NX') then
  return 0
end
local completed_rule = newest_rule(keys, keys.completed, 'removeOnComplete', rules[1])
local removed = retain(keys, keys.completed, completed_rule, now, 0)
removed = removed + retain(keys, keys.failed, newest_rule(keys, keys.failed, 'removeOnFail', rules[2]), now, removed)
return removed == REMOVALS_PER_CALL and 1 or 0
