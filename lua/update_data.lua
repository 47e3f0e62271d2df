--- Replace a job's data.
--- @key meta hash names the queue's slot in a cluster; not touched
--- @derived {prefix}{id} hash the job
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg job_id string
--- @arg data   string JSON, stored as it is
--- @return 0
--- @error -1 JobNotFound the job does not exist

local job_key = prefix .. job_id
if redis.call('EXISTS', job_key) == 0 then
  return -1
end
redis.call('HSET', job_key, 'data', data)
return 0
