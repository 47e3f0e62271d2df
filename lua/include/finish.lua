--- Complete or fail an active job for good.
--- @include clock keys events locks parents remove deduplication leave_active
--- @error -4 PendingChildren a parent cannot complete before its children
--- @error -9 FailedChildren a parent cannot complete with a failed child
--- @event completed failed retries-exhausted

--- Whether children forbid to complete the job: 0, -4 or -9.
local function check_children(job_key)
  if redis.call('SCARD', job_key .. ':dependencies') > 0 then
    return -4
  end
  return redis.call('ZCARD', job_key .. ':unsuccessful') > 0 and -9 or 0
end

--- Put a finished job where its retention says: nowhere, or into its set, with the fields of its end.
local function keep_finished(q, job, outcome, target)
  if outcome.keep_count == 0 then
    delete_job_keys(job.key)
    detach_from_parent(job.key, false, job.parent_key)
    return
  end
  local scores = q.batch.scores[target]
  scores[#scores + 1] = integer(q.now)
  scores[#scores + 1] = outcome.id
  redis.call('HSET', job.key, target == 'completed' and 'returnvalue' or 'failedReason', outcome.value,
    'finishedOn', integer(q.now), 'atm', integer(job.attempts_made + 1))
  if target == 'failed' then
    redis.call('HDEL', job.key, 'defa')
  end
  local policy = outcome.keep_count .. ' ' .. outcome.keep_age_s .. ' ' .. outcome.keep_limit .. target
  q.batch.policies[policy] = {
    target = target, count = outcome.keep_count, age_s = outcome.keep_age_s, limit = outcome.keep_limit,
  }
end

--- Complete or fail a job for good.
local function finish_job(q, job, outcome, target)
  if target == 'completed' and q.has_children then
    local code = check_children(job.key)
    if code < 0 then
      return code
    end
  end
  local code = check_lock(outcome.lock, outcome.token)
  code = code < 0 and code or leave_active(q, job, outcome)
  if code < 0 then
    return code
  end
  if job.deduplication_id then
    finish_deduplication(q.keys, outcome.id, job.deduplication_id, q.now, is_blocked(q.keys, q.meta))
  end
  if job.parent_key and target == 'completed' then
    child_completed(job.key, job.parent_key, outcome.value, q.now)
  elseif job.parent_key then
    child_failed(job.key, job.parent_key, job.parent, outcome.value, q.now)
  end
  keep_finished(q, job, outcome, target)
  if target == 'completed' then
    emit(q.keys, 'completed', 'jobId', outcome.id, 'returnvalue', outcome.value, 'prev', 'active')
  else
    emit(q.keys, 'failed', 'jobId', outcome.id, 'failedReason', outcome.value, 'prev', 'active')
    if job.attempts_made + 1 >= outcome.attempts then
      emit(q.keys, 'retries-exhausted', 'jobId', outcome.id, 'attemptsMade', integer(job.attempts_made + 1))
    end
  end
  q.batch.finished[target] = q.batch.finished[target] + 1
  return 0
end
