--- Settle the outcomes of many active jobs. What they share is collected in a `batch` and written once per call.
--- @include clock events errors markers active_list details finish siblings requeue metrics delayed
--- @uses wait active prioritized limiter completed failed stalled metrics_completed metrics_completed_data metrics_failed metrics_failed_data

--- What one call collects before it writes: locks to delete, ids to unmark, finished jobs by set and policy, counts of
--- those completed, failed and removed; and what it knows: ids whose lock is given up, places that can be written.
local function new_batch()
  return {
    locks = {}, job_ids = {}, unlocked = {}, groups = {}, completed = 0, failed = 0, removed = 0, intact = {},
    any_ready = false, any_delayed = false, gave_back = false,
  }
end

--- The locks and children of all jobs in two commands. Returns the locks' keys and values, in order; and whether any job
--- has children.
local function read_ahead(keys, outcomes)
  local lock_keys, child_keys = {}, {}
  for i, outcome in ipairs(outcomes) do
    local job_key = keys.prefix .. outcome.id
    outcome.key = job_key
    lock_keys[i] = job_key .. ':lock'
    child_keys[i * 2 - 1] = job_key .. ':dependencies'
    child_keys[i * 2] = job_key .. ':unsuccessful'
  end
  return lock_keys, redis.call('MGET', unpack(lock_keys)), redis.call('EXISTS', unpack(child_keys)) > 0
end

--- Key that a kind of outcome puts its job into: a set of its own, or a line.
local function landing_place(kind, priority)
  if kind == 'completed' or kind == 'failed' or kind == 'waiting_children' then
    return kind
  elseif kind == 'backoff' or kind == 'delayed' or kind == 'delayed_until' then
    return 'delayed'
  end
  return priority > 0 and 'prioritized' or 'wait'
end

--- Fail, while the job still is active, if the place it goes to was overwritten by something else. It happens: other
--- clients accept `wait` as the id of a job.
local function check_place(q, job, kind)
  local name = landing_place(kind, job.priority)
  if not q.batch.intact[name] then
    redis.call(name == 'wait' and 'LLEN' or 'ZCARD', q.keys[name])
    q.batch.intact[name] = true
  end
end

--- Settle one job; returns its code. q: keys now meta batch has_children; job: key lock_key lock row, and facts.
local function settle_job(q, job, outcome)
  if not read_facts(job, outcome.kind) then
    return -1
  end
  if outcome.details.keep_count ~= 0 then -- else it goes nowhere
    check_place(q, job, outcome.kind)
  end
  if outcome.kind == 'completed' or outcome.kind == 'failed' then
    return finish_job(q, job, outcome)
  elseif outcome.kind == 'waiting_children' then
    return await_children(q, job, outcome)
  end
  q.batch.gave_back = q.batch.gave_back or outcome.kind == 'released' or outcome.kind == 'rate_limited'
  local code = check_lock(job.lock, outcome.token)
  code = code < 0 and code or leave_active(q, job, outcome)
  if code == 0 then
    LEAVE[outcome.kind](q, job, outcome)
  elseif code == -3 and GIVES_BACK[outcome.kind] then
    return 0 -- as upstream: there is nothing to give back
  end
  return code
end

--- Count finished jobs into the metrics of one kind. A series that was overwritten by something else counts nothing.
local function count_into_metrics(q, target, metrics_points)
  local keys, finished = q.keys, q.batch[target]
  if finished > 0 then
    pcall(count_finished, keys['metrics_' .. target], keys['metrics_' .. target .. '_data'], finished, q.now,
      metrics_points)
  end
end

--- Write what the jobs of a call share, their places first: a job that has left active must not be lost.
local function flush_batch(q, metrics_points)
  local batch, keys = q.batch, q.keys
  write_active(keys, batch.active)
  keep_groups(q)
  if metrics_points > 0 then
    count_into_metrics(q, 'completed', metrics_points)
    count_into_metrics(q, 'failed', metrics_points)
  end
  if #batch.locks > 0 then
    redis.call('DEL', unpack(batch.locks))
    redis.pcall('SREM', keys.stalled, unpack(batch.job_ids)) -- whatever that key is, the jobs are settled
  end
  if batch.any_ready then
    mark_ready(keys, is_blocked(keys, q.meta))
  end
end

--- Settle all outcomes; returns a code per outcome, in order: an integer, or the text of an error of this one job.
--- Also how many jobs finished.
local function settle_jobs(q, outcomes, metrics_points)
  local codes = {}
  q.batch = new_batch()
  if #outcomes == 0 then
    return codes, 0
  end
  q.batch.active = read_active(q.keys, q.meta, #outcomes)
  local lock_keys, locks, has_children = read_ahead(q.keys, outcomes)
  q.has_children = has_children
  -- One job alone tells its parent at once, in upstream's order; and so does a call that also settles parents.
  q.batch.families = #outcomes > 1 and not has_children and {} or nil
  -- One table for all: what it says holds until the next job. Its fields are made at once, because a table that grows
  -- is made anew each time.
  local job = {
    row = 0, key = '', lock_key = '', lock = false, priority = 0, parent = nil, parent_key = nil, is_doomed = false,
    deduplication_id = nil, attempts_started = false, attempts_made = false,
  }
  for i, outcome in ipairs(outcomes) do
    outcome.details = read_details(outcome.details)
    job.row, job.key, job.lock_key = i, outcome.key, lock_keys[i]
    job.lock = not q.batch.unlocked[outcome.id] and locks[i]
    local handled, code = pcall(settle_job, q, job, outcome)
    codes[i] = handled and code or error_text(code)
  end
  flush_batch(q, metrics_points)
  if q.batch.families and q.batch.families[1] then
    tell_parents(q, codes)
  end
  return codes, q.batch.completed + q.batch.failed
end

--- A retry lets due jobs go first; returns how many there were.
local function promote_before_retry(q, outcomes)
  for _, outcome in ipairs(outcomes) do
    if outcome.kind == 'retried' then
      return promote_delayed(q.keys, q.now, is_blocked(q.keys, q.meta), PROMOTIONS_PER_CALL)
    end
  end
  return 0
end

--- Make due jobs ready before a claim; returns when the first of the rest is due. Two removals of old jobs take the
--- place of one promotion, so that both together keep Redis no longer than either alone.
local function promote_due(q, promoted)
  local due = next_delayed(q.keys)
  if not due or due >= q.now + 1 then
    return due
  end
  local left = PROMOTIONS_PER_CALL - promoted - math.floor(q.batch.removed / 2)
  promote_delayed(q.keys, q.now, is_blocked(q.keys, q.meta), math.max(0, left))
  return next_delayed(q.keys)
end
