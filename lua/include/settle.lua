--- Settle the outcomes of many active jobs. What they share is collected in a `batch` and written once per call.
--- @include clock events errors finish requeue retention metrics delayed
--- @uses wait active prioritized limiter completed failed stalled metrics_completed metrics_completed_data metrics_failed metrics_failed_data
--- @event drained

--- What one call collects before it writes: locks to delete, ids to unmark, finished jobs, policies, counts.
local function new_batch()
  return {
    locks = {}, job_ids = {}, scores = { completed = {}, failed = {} }, policies = {},
    finished = { completed = 0, failed = 0 },
  }
end

--- The locks and children of all jobs in two commands: lock values in order, and whether any job has children.
local function read_ahead(keys, outcomes)
  local lock_keys, child_keys = {}, {}
  for i, outcome in ipairs(outcomes) do
    local job_key = keys.prefix .. outcome.id
    lock_keys[i] = job_key .. ':lock'
    child_keys[i * 2 - 1] = job_key .. ':dependencies'
    child_keys[i * 2] = job_key .. ':unsuccessful'
  end
  local locks = redis.call('MGET', unpack(lock_keys))
  return locks, redis.call('EXISTS', unpack(child_keys)) > 0
end

--- Settle one job; returns its code. q: keys now meta batch has_children; outcome: a row plus `lock`.
local function settle_job(q, outcome)
  local job = read_job(q.keys, outcome.id)
  if not job then
    return -1
  end
  if outcome.kind == 'completed' or outcome.kind == 'failed' then
    return finish_job(q, job, outcome, outcome.kind)
  elseif outcome.kind == 'waiting_children' then
    return await_children(q, job, outcome)
  end
  local code = check_lock(outcome.lock, outcome.token)
  code = code < 0 and code or leave_active(q, job, outcome)
  if code < 0 then
    return code
  end
  LEAVE[outcome.kind](q, job, outcome)
  return 0
end

--- Write what the jobs of a call share.
local function flush_batch(q, metrics_points)
  local batch, keys = q.batch, q.keys
  if #batch.locks > 0 then
    redis.call('DEL', unpack(batch.locks))
    redis.call('SREM', keys.stalled, unpack(batch.job_ids))
  end
  for target, scores in pairs(batch.scores) do
    if #scores > 0 then
      redis.call('ZADD', keys[target], unpack(scores))
    end
    if metrics_points > 0 and batch.finished[target] > 0 then
      count_finished(keys['metrics_' .. target], keys['metrics_' .. target .. '_data'], batch.finished[target], q.now,
        metrics_points)
    end
  end
  for _, policy in pairs(batch.policies) do
    retain(keys, keys[policy.target], policy, q.now)
  end
end

--- Settle all outcomes; returns a code per outcome, in order: an integer, or the text of an error that spoiled
--- this one job. Also how many jobs finished.
local function settle_jobs(q, outcomes, metrics_points)
  local codes = {}
  if #outcomes == 0 then
    return codes, 0
  end
  local locks, has_children = read_ahead(q.keys, outcomes)
  q.batch = new_batch()
  q.has_children = has_children
  for i, outcome in ipairs(outcomes) do
    outcome.lock = locks[i]
    local handled, code = pcall(settle_job, q, outcome)
    codes[i] = handled and code or error_text(code)
  end
  flush_batch(q, metrics_points)
  return codes, q.batch.finished.completed + q.batch.finished.failed
end

--- A retry lets due jobs go first.
local function promote_before_retry(q, outcomes)
  for _, outcome in ipairs(outcomes) do
    if outcome.kind == 'retried' then
      promote_delayed(q.keys, q.now, is_blocked(q.keys, q.meta), PROMOTIONS_PER_CALL)
      return
    end
  end
end

--- Say that nothing is left to do, if so; delayed jobs and parents that wait do not count.
local function announce_drained(keys)
  if redis.call('LLEN', keys.wait) == 0 and redis.call('LLEN', keys.active) == 0
    and redis.call('ZCARD', keys.prioritized) == 0 then
    emit(keys, 'drained')
  end
end

--- Milliseconds left of the rate limit, asked by those that gave a job back.
local function limit_left(keys, outcomes)
  for _, outcome in ipairs(outcomes) do
    if outcome.kind == 'released' or outcome.kind == 'rate_limited' then
      return math.max(0, redis.call('PTTL', keys.limiter))
    end
  end
  return 0
end
