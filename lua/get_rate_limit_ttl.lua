--- Tell how long the rate limit keeps the queue from taking jobs.
--- @key limiter string jobs taken in this window; expires with it
--- @key meta    hash   settings
--- @key active  list   read by the included settings
--- @arg max_jobs int jobs per window; 0 = the queue's own limit
--- @return milliseconds: 0 while the limit is not reached; without any limit the life of the window, -2 for none
--- @include meta

local max = max_jobs > 0 and max_jobs or read_meta(keys).max
local ttl = redis.call('PTTL', keys.limiter)
if not max then
  return ttl
end
local used = tonumber(redis.call('GET', keys.limiter) or 0) or 0
return (used >= max and ttl > 0) and ttl or 0
