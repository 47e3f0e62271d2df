--- Read a range of jobs of one state with their fields, a page per call.
--- @key wait             list ids ready to run
--- @key paused           list ids set aside by old versions
--- @key active           list ids claimed by some worker
--- @key prioritized      zset ids ready to run, by priority
--- @key delayed          zset ids that wait for their time
--- @key waiting_children zset parents that wait for children
--- @key completed        zset finished jobs
--- @key failed           zset finished jobs
--- @derived {prefix}{id} hash the jobs
--- @arg prefix       string key prefix of the queue, ends with ':'
--- @arg place        string attribute of one of the keys above
--- @arg first        int    position of the first job; negative counts from the end
--- @arg last         int    position of the last job, inclusive; negative counts from the end
--- @arg oldest_first int    1: position 0 is the oldest (or first to run), 0: the newest
--- @arg limit        int    jobs per call
--- @return [first, last (both from 0; last < first: nothing), id, fields, ...]; positions beyond the limit are for
---   the next call
--- @include read_jobs

local is_list = place == 'wait' or place == 'paused' or place == 'active'
local key = keys[place]
local size = redis.call(is_list and 'LLEN' or 'ZCARD', key)
first = first < 0 and math.max(first + size, 0) or first
last = math.min(last < 0 and last + size or last, size - 1)

local upper = math.min(last, first + limit - 1)
local job_ids = {}
if first > upper then
  last = first - 1
elseif not is_list then
  job_ids = redis.call(oldest_first == 1 and 'ZRANGE' or 'ZREVRANGE', key, first, upper)
elseif oldest_first == 0 then
  job_ids = redis.call('LRANGE', key, first, upper)
else
  local newest_first = redis.call('LRANGE', key, -(upper + 1), -(first + 1))
  for i = #newest_first, 1, -1 do
    job_ids[#job_ids + 1] = newest_first[i]
  end
end
return append_jobs({ first, last }, prefix, job_ids)
