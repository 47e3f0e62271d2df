--- Remove one job, by default with its children.
--- Transition: any state -> removed.
--- @key completed        zset   finished jobs
--- @key failed           zset   finished jobs
--- @key delayed          zset   ids that wait for their time
--- @key prioritized      zset   ids ready to run, by priority
--- @key waiting_children zset   parents that wait for children
--- @key wait             list   ids ready to run
--- @key paused           list   ids set aside by old versions
--- @key active           list   ids claimed by some worker
--- @key schedulers       zset   scheduler id -> time of its pending iteration, which is not removed
--- @key events           stream event stream
--- @key meta             hash   settings
--- @key marker           zset   wakes idle workers
--- @key pc               string priority counter
--- @derived {prefix}{id} hash and the keys below it
--- @derived {prefix}{id}:lock string a locked job is not removed
--- @derived {prefix}de:{id} string deduplication ids the removed jobs own
--- @derived {child} hash and the keys below it, in the child's queue
--- @derived {parent}:dependencies set pending children, in the parent's queue
--- @arg prefix        string key prefix of the queue, ends with ':'
--- @arg job_id        string
--- @arg with_children int    1: also remove its children and theirs
--- @return 1 removed (or it did not exist), 0 it or a pending child is locked and nothing was removed, 2 its family has
--- more than 50 jobs and is removed in steps (`scan_family`, `remove_members`)
--- @error -8 OwnedByScheduler the job is the pending iteration of a scheduler
--- @event removed waiting
--- @include family iterations

if is_pending_iteration(keys, job_id) then
  return -8
elseif with_children == 1 and is_large_family(prefix .. job_id) then
  return 2
elseif is_family_locked(prefix .. job_id, with_children == 1, {}) then
  return 0
end
local walk = new_walk(with_children == 1 and child_keys or no_children)
remove_family(keys, job_id, walk)
end_walk(walk)
return 1
