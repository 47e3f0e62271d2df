--- What an active job is, and how it leaves the active list.
--- @include clock locks
--- @uses active
--- @error -1 JobNotFound the job is gone
--- @error -3 JobNotInState the job is not active

--- What is read of a job: what every outcome needs; the rest, which a completed job does not need; `ats`, which every
--- job has that was claimed, tells that it exists.
local COMPLETED_FACTS = { 'ats', 'atm', 'attemptsMade', 'parentKey', 'deid' }
local ALL_FACTS = { 'ats', 'atm', 'attemptsMade', 'parentKey', 'deid', 'parent', 'priority', 'defa' }

--- A job's facts, as far as the outcome needs them: nil when the job is gone.
local function read_job(keys, job_id, kind)
  local job_key = keys.prefix .. job_id
  local values = redis.call('HMGET', job_key, unpack(kind == 'completed' and COMPLETED_FACTS or ALL_FACTS))
  if not values[1] and redis.call('EXISTS', job_key) == 0 then
    return nil
  end
  return {
    key = job_key,
    attempts_made = tonumber(values[2] or values[3] or 0) or 0,
    attempts_started = tonumber(values[1] or 0) or 0,
    parent_key = values[4] or nil,
    deduplication_id = values[5] or nil,
    parent = values[6] or nil,
    priority = tonumber(values[7] or 0) or 0,
    is_doomed = values[8] and true or false,
  }
end

--- Write the end of an attempt: further fields, and the stack trace where it has one.
local function write_attempt(job, outcome, ...)
  if outcome.stacktrace ~= '' then
    redis.call('HSET', job.key, 'stacktrace', outcome.stacktrace, ...)
  else
    redis.call('HSET', job.key, ...)
  end
end

--- The number of attempts made, when this one counts, too.
local function attempts_made(job)
  return integer(job.attempts_made + 1)
end

--- Give up the lock and the place in active; 0 or -3. The lock goes and the failure is written even when the job turns
--- out not to be active.
local function leave_active(q, job, outcome)
  local left = redis.call('LREM', q.keys.active, '-1', outcome.id) > 0
  if outcome.token ~= NO_LOCK then
    q.batch.locks[#q.batch.locks + 1] = job.key .. ':lock'
    q.batch.job_ids[#q.batch.job_ids + 1] = outcome.id
  end
  q.batch.unlocked[outcome.id] = true
  if not left and outcome.stacktrace ~= '' then
    write_attempt(job, outcome, 'failedReason', outcome.value)
  end
  return left and 0 or -3
end
