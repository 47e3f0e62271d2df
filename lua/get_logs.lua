--- Read rows of a job's log and how many there are.
--- @key meta hash names the queue's slot in a cluster; not touched
--- @derived {prefix}{id}:logs list log rows, oldest first
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg job_id string
--- @arg first  int    index as in LRANGE
--- @arg last   int    index as in LRANGE, inclusive
--- @return [rows in the log, row ...], oldest first

local logs_key = prefix .. job_id .. ':logs'
local rows = redis.call('LRANGE', logs_key, first, last)
table.insert(rows, 1, redis.call('LLEN', logs_key))
return rows
