--- Tell whether a job is finished, and how it ended.
--- @key completed zset finished jobs
--- @key failed    zset finished jobs
--- @derived {prefix}{id} hash the job
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg job_id string
--- @return [-1] no such job, [0] not yet, [1, return value as JSON], [2, reason]

local job_key = prefix .. job_id
if redis.call('EXISTS', job_key) == 0 then
  return { -1 }
elseif redis.call('ZSCORE', keys.completed, job_id) then
  return { 1, redis.call('HGET', job_key, 'returnvalue') or 'null' }
elseif redis.call('ZSCORE', keys.failed, job_id) then
  return { 2, redis.call('HGET', job_key, 'failedReason') or '' }
end
return { 0 }
