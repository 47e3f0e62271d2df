--- Adds of an id that exists.
--- @include events parents staged
--- @uses completed
--- @error -7 ParentNotReplaceable the existing job belongs to another parent
--- @event duplicated

--- Whether a job whose parent is `owner` belongs to another one than `parent_key`: a job has one parent at most.
local function is_other_parent(owner, parent_key, now)
  return owner and owner ~= parent_key and redis.call('EXISTS', owner) == 1 and not is_abandoned(owner, now)
end

--- Whether an existing job belongs to another parent that still exists.
local function belongs_to_another(job_key, parent_key, now)
  return parent_key ~= '' and is_other_parent(redis.call('HGET', job_key, 'parentKey'), parent_key, now)
end

--- Leave the job as it is, whatever its state, attach it to the new parent, if any, and say so. In a flow the parent
--- is released later, when all its children are known.
local function attach_existing(keys, job, job_id)
  local job_key = keys.prefix .. job_id
  if job.parent_key ~= '' then
    if redis.call('ZSCORE', keys.completed, job_id) then
      redis.call('HSET', job.parent_key .. ':processed', job_key, redis.call('HGET', job_key, 'returnvalue') or 'null')
      if not job.in_flow then
        release_parent_if_ready(job.parent_key, job.now)
      end
    else
      redis.call('SADD', job.parent_key .. ':dependencies', job_key)
    end
    redis.call('HSET', job_key, 'parentKey', job.parent_key, 'parent', job.parent)
  end
  emit(keys, 'duplicated', 'jobId', job_id)
end
