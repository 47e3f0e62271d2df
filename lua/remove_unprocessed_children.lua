--- Remove pending children of a job, with their own, a part per call. Locked and failed children stay, and those that
--- completed.
--- Transition: of the children: any state but failed -> removed. Of the parent, with no child left: -> wait.
--- @key completed        zset   finished jobs
--- @key failed           zset   finished jobs
--- @key delayed          zset   ids that wait for their time
--- @key prioritized      zset   ids ready to run, by priority
--- @key waiting_children zset   parents that wait for children
--- @key wait             list   ids ready to run
--- @key paused           list   ids set aside by old versions
--- @key active           list   ids claimed by some worker
--- @key events           stream event stream
--- @key meta             hash   settings
--- @key marker           zset   wakes idle workers
--- @key pc               string priority counter
--- @derived {prefix}{id}:dependencies set pending children
--- @derived {child} hash and the keys below it, in the child's queue; and that queue's keys
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg job_id string the parent
--- @arg cursor string where the last call stopped; '0' at first
--- @arg limit  int    children looked at per call, about
--- @return [cursor, removed jobs]; cursor '0': done
--- @include family

local job_key = prefix .. job_id
local dependencies = job_key .. ':dependencies'
local step = { '0' }
if cursor ~= '0' or redis.call('SCARD', dependencies) > limit then
  step = redis.call('SSCAN', dependencies, cursor, 'COUNT', limit)
end
local walk = new_walk(unprocessed_keys)
for _, child_key in ipairs(unprocessed_keys(job_key, step[2])) do
  local child_prefix, child_id = split_job_key(child_key)
  remove_family(derive_keys(child_prefix), child_id, walk, job_key)
end
end_walk(walk)
return { step[1], walk.removed }
