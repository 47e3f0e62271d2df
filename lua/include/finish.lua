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
    if outcome.details.keep_count == 0 then
      detach_from_parent(job.key, false, job.parent_key)
    end
  end
end

--- Note a finished job for its set. Jobs of the same set and policy, one after another, share a group: the policy is
--- applied once, after all of them.
local function join_group(q, outcome)
  local groups, kind, keep = q.batch.groups, outcome.kind, outcome.details
  local group = groups[#groups]
  if not group or group.kind ~= kind or group.count ~= keep.keep_count or group.age_s ~= keep.keep_age_s
    or group.limit ~= keep.keep_limit then
    group = { kind = kind, count = keep.keep_count, age_s = keep.keep_age_s, limit = keep.keep_limit, members = {} }
    groups[#groups + 1] = group
  end
  local members = group.members
  members[#members + 1] = q.now_text
  members[#members + 1] = outcome.id
end

--- Put a finished job where its retention says: nowhere, or into its set, with the fields of its end.
local function keep_finished(q, job, outcome)
  if outcome.details.keep_count == 0 then
    delete_job_keys(job.key)
    return
  end
  join_group(q, outcome)
  local value_field = outcome.kind == 'completed' and 'returnvalue' or 'failedReason'
  write_attempt(job, outcome, value_field, outcome.value, 'finishedOn', q.now_text, 'atm',
    integer(attempts_made(job)))
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
  if attempts_made(job) >= outcome.details.attempts then
    emit(q.keys, 'retries-exhausted', 'jobId', outcome.id, 'attemptsMade', integer(attempts_made(job)))
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
  local code = check_lock(job.lock, outcome.token)
  code = code < 0 and code or leave_active(q, job, outcome)
  if code < 0 then
    return code
  end
  local told, problem = true, nil
  if job.deduplication_id or job.parent_key then
    told, problem = pcall(tell_others, q, job, outcome)
  end
  keep_finished(q, job, outcome)
  announce_end(q, job, outcome)
  q.batch[outcome.kind] = q.batch[outcome.kind] + 1
  return told and 0 or error_text(problem)
end

--- Put the finished jobs of a call into their sets, and apply their policies.
local function keep_groups(q)
  for _, group in ipairs(q.batch.groups) do
    local set_key = q.keys[group.kind]
    redis.call('ZADD', set_key, unpack(group.members))
    if group.count > 0 or group.age_s >= 0 then
      q.batch.removed = q.batch.removed + retain(q.keys, set_key, group, q.now, q.batch.removed)
    end
  end
end
