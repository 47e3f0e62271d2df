--- Count the children of a job by what became of them.
--- @key id string names the slot; not touched
--- @derived {prefix}{id}:processed hash, :dependencies set, :unsuccessful zset, :failed hash
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg job_id string
--- @return [processed, unprocessed, failed, ignored]

local job_key = prefix .. job_id
return {
  redis.call('HLEN', job_key .. ':processed'),
  redis.call('SCARD', job_key .. ':dependencies'),
  redis.call('ZCARD', job_key .. ':unsuccessful'),
  redis.call('HLEN', job_key .. ':failed'),
}
