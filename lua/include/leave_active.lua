--- What an active job is, and how it leaves the active list.
--- @include locks
--- @uses active
--- @error -1 JobNotFound the job is gone
--- @error -3 JobNotInState the job is not active

--- A job's facts: nil when it is gone.
local function read_job(keys, job_id)
  local job_key = keys.prefix .. job_id
  local values = redis.call('HMGET', job_key, 'timestamp', 'atm', 'attemptsMade', 'parentKey', 'parent', 'deid',
    'priority', 'ats')
  if not values[1] and redis.call('EXISTS', job_key) == 0 then
    return nil
  end
  return {
    key = job_key,
    attempts_made = tonumber(values[2] or values[3] or 0) or 0,
    attempts_started = tonumber(values[8] or 0) or 0,
    parent_key = values[4] or nil,
    parent = values[5] or nil,
    deduplication_id = values[6] or nil,
    priority = tonumber(values[7] or 0) or 0,
  }
end

--- Give up the lock and the place in active; 0 or -3. The lock goes even when the job turns out not to be active.
local function leave_active(q, job, outcome)
  if outcome.token ~= NO_LOCK then
    q.batch.locks[#q.batch.locks + 1] = job.key .. ':lock'
    q.batch.job_ids[#q.batch.job_ids + 1] = outcome.id
  end
  if outcome.stacktrace ~= '' then
    redis.call('HSET', job.key, 'failedReason', outcome.value, 'stacktrace', outcome.stacktrace)
  end
  return redis.call('LREM', q.keys.active, -1, outcome.id) > 0 and 0 or -3
end
