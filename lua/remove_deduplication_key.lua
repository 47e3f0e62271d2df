--- Give up a deduplication id, if the job still owns it.
--- @key meta hash names the queue's slot in a cluster; not touched
--- @derived {prefix}de:{id} string id of the job that owns the deduplication id
--- @arg prefix           string key prefix of the queue, ends with ':'
--- @arg deduplication_id string
--- @arg job_id           string
--- @return 1 given up, 0 not the owner

local key = prefix .. 'de:' .. deduplication_id
if redis.call('GET', key) == job_id then
  return redis.call('DEL', key)
end
return 0
