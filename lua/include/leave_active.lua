--- What an active job is, and how it leaves the active list.
--- @include clock locks active_list
--- @error -1 JobNotFound the job is gone
--- @error -3 JobNotInState the job is not active

--- Read a job's facts into `job`, as far as the outcome needs them; a completed job needs fewer. Returns whether the job
--- exists, which `ats` tells of every job that was claimed.
local function read_facts(job, kind)
  local values
  if kind == 'completed' then
    values = redis.call('HMGET', job.key, 'ats', 'atm', 'attemptsMade', 'parentKey', 'deid')
  else
    values = redis.call('HMGET', job.key, 'ats', 'atm', 'attemptsMade', 'parentKey', 'deid', 'parent', 'priority', 'defa')
    job.parent = values[6] or nil
    job.priority = tonumber(values[7] or 0) or 0
    job.is_doomed = values[8] and true or false
  end
  if not values[1] and redis.call('EXISTS', job.key) == 0 then
    return false
  end
  job.attempts_started, job.attempts_made = values[1], values[2] or values[3]
  job.parent_key = values[4] or nil
  job.deduplication_id = values[5] or nil
  return true
end

--- Write the end of an attempt: further fields, and the stack trace where it has one.
local function write_attempt(job, outcome, ...)
  if outcome.details.stacktrace ~= '' then
    redis.call('HSET', job.key, 'stacktrace', outcome.details.stacktrace, ...)
  else
    redis.call('HSET', job.key, ...)
  end
end

--- The number of attempts made, when this one counts, too.
local function attempts_made(job)
  return (job.attempts_made and tonumber(job.attempts_made) or 0) + 1
end

--- Give up the lock and the place in active; 0 or -3. The lock goes and the failure is written even when the job turns
--- out not to be active.
local function leave_active(q, job, outcome)
  local left = take_from_active(q.keys, q.batch.active, outcome.id)
  local batch = q.batch
  if outcome.token ~= NO_LOCK then
    batch.locks[#batch.locks + 1] = job.lock_key
    batch.job_ids[#batch.job_ids + 1] = outcome.id
  end
  batch.unlocked[outcome.id] = true
  if not left and outcome.details.stacktrace ~= '' then
    write_attempt(job, outcome, 'failedReason', outcome.value)
  end
  return left and 0 or -3
end
