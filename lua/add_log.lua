--- Append a row to a job's log.
--- @key meta hash names the queue's slot in a cluster; not touched
--- @derived {prefix}{id} hash the job
--- @derived {prefix}{id}:logs list log rows, oldest first
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg job_id string
--- @arg row    string
--- @arg keep   int    newest rows that stay; 0 = all
--- @return rows in the log
--- @error -1 JobNotFound the job does not exist

local job_key = prefix .. job_id
if redis.call('EXISTS', job_key) == 0 then
  return -1
end
local rows = redis.call('RPUSH', job_key .. ':logs', row)
if keep > 0 then
  redis.call('LTRIM', job_key .. ':logs', -keep, -1)
  rows = math.min(rows, keep)
end
return rows
