--- Let a parent not wait for one of its children any more; the child goes on alone.
--- Transition: of its parent, if that waited for nothing else: waiting-children -> wait.
--- @key meta             hash   settings
--- @key active           list   read by the included settings
--- @key wait             list   a released parent is first in line
--- @key prioritized      zset   read by the included places
--- @key pc               string priority counter
--- @key delayed          zset   read by the included markers
--- @key marker           zset   wakes idle workers
--- @key events           stream event stream
--- @derived {prefix}{id} hash the child
--- @derived {parent}:dependencies set pending children, in the parent's queue; and that queue's keys
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg job_id string the child
--- @return 0 done, 1 the parent did not wait for it
--- @error -1 JobNotFound the child does not exist
--- @error -5 ParentNotFound it has no parent, or that is gone
--- @include remove

local job_key = prefix .. job_id
if redis.call('EXISTS', job_key) == 0 then
  return -1
end
local parent_key = redis.call('HGET', job_key, 'parentKey')
if not parent_key or redis.call('EXISTS', parent_key) == 0 then
  return -5
elseif not detach_from_parent(job_key, false, parent_key) then
  return 1
end
redis.call('HDEL', job_key, 'parentKey', 'parent')
return 0
