--- Complete or fail an active job for good.
--- @include clock errors events locks parents siblings remove deduplication leave_active retention
--- @uses completed failed
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

--- Tell those that waited for the job: the next one with its deduplication id, and its parent.
local function tell_others(q, job, outcome)
  if job.deduplication_id then
    finish_deduplication(q.keys, outcome.id, job.deduplication_id, q.now, is_blocked(q.keys, q.meta))
  end
  if not job.parent_key then
    return
  elseif outcome.kind == 'completed' and q.batch.families then
    join_siblings(q.batch.families, job, outcome)
  elseif outcome.kind == 'completed' then
    child_completed(job.key, job.parent_key, outcome.value, q.now)
  else
    child_failed(job.key, job.parent_key, job.parent, outcome.value, q.now)
    if outcome.keep_count == 0 then
      detach_from_parent(job.key, false, job.parent_key)
    end
  end
end

--- Note a finished job for its set. Jobs with the same policy, one after another, share a group: the policy is applied
--- once, after all of them.
local function join_group(groups, outcome, now)
  local group = groups[#groups]
  if not group or group.count ~= outcome.keep_count or group.age_s ~= outcome.keep_age_s
    or group.limit ~= outcome.keep_limit then
    group = { count = outcome.keep_count, age_s = outcome.keep_age_s, limit = outcome.keep_limit, members = {} }
    groups[#groups + 1] = group
  end
  group.members[#group.members + 1] = integer(now)
  group.members[#group.members + 1] = outcome.id
end

--- Put a finished job where its retention says: nowhere, or into its set, with the fields of its end.
local function keep_finished(q, job, outcome)
  if outcome.keep_count == 0 then
    delete_job_keys(job.key)
    return
  end
  join_group(q.batch.groups[outcome.kind], outcome, q.now)
  local value_field = outcome.kind == 'completed' and 'returnvalue' or 'failedReason'
  write_attempt(job, outcome, value_field, outcome.value, 'finishedOn', integer(q.now), 'atm', attempts_made(job))
  if job.is_doomed and outcome.kind == 'failed' then
    redis.call('HDEL', job.key, 'defa')
  end
end

local function announce_end(q, job, outcome)
  if outcome.kind == 'completed' then
    emit(q.keys, 'completed', 'jobId', outcome.id, 'returnvalue', outcome.value, 'prev', 'active')
    return
  end
  emit(q.keys, 'failed', 'jobId', outcome.id, 'failedReason', outcome.value, 'prev', 'active')
  if job.attempts_made + 1 >= outcome.attempts then
    emit(q.keys, 'retries-exhausted', 'jobId', outcome.id, 'attemptsMade', attempts_made(job))
  end
end

--- Complete or fail a job for good. If others cannot be told (a key of theirs was overwritten by something else), the
--- job has finished all the same, and its code is the text of that error.
local function finish_job(q, job, outcome)
  if outcome.kind == 'completed' and q.has_children then
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
  local told, problem = pcall(tell_others, q, job, outcome)
  keep_finished(q, job, outcome)
  announce_end(q, job, outcome)
  q.batch.finished[outcome.kind] = q.batch.finished[outcome.kind] + 1
  return told and 0 or error_text(problem)
end

--- Put the finished jobs of a call into their set, and apply their policies.
local function keep_groups(q, target)
  local set_key = q.keys[target]
  for _, group in ipairs(q.batch.groups[target]) do
    redis.call('ZADD', set_key, unpack(group.members))
    q.batch.budget = q.batch.budget - retain(q.keys, set_key, group, q.now, q.batch.budget)
  end
end
