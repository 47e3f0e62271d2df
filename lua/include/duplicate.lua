--- Adds of an id that exists.
--- @include events parents
--- @uses completed
--- @error -7 ParentNotReplaceable the existing job belongs to another parent
--- @event duplicated

--- Leave the job as it is, whatever its state, attach it to the new parent, if any, and say so; 0 or -7.
local function attach_existing(keys, job, job_id)
  local job_key = keys.prefix .. job_id
  if job.parent_key ~= '' then
    local owner = redis.call('HGET', job_key, 'parentKey')
    if owner and owner ~= job.parent_key and redis.call('EXISTS', owner) == 1 then
      return -7
    end
    if redis.call('ZSCORE', keys.completed, job_id) then
      redis.call('HSET', job.parent_key .. ':processed', job_key, redis.call('HGET', job_key, 'returnvalue') or 'null')
      release_parent_if_ready(job.parent_key, job.now)
    else
      redis.call('SADD', job.parent_key .. ':dependencies', job_key)
    end
    redis.call('HSET', job_key, 'parentKey', job.parent_key, 'parent', job.parent)
  end
  emit(keys, 'duplicated', 'jobId', job_id)
  return 0
end
