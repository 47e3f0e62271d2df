--- Ways for an active job to go back: to its line, to the delayed set, to its children.
--- @include clock events markers ready delayed locks leave_active
--- @uses waiting_children limiter
--- @event waiting delayed waiting-children

--- A manual rate limit: more than any limit allows.
local LIMIT_REACHED = '9007199254740991'

--- Whether the job asked to be served last in, first out.
local function is_lifo(job)
  local readable, options = pcall(cjson.decode, redis.call('HGET', job.key, 'opts') or '{}')
  return readable and type(options) == 'table' and options.lifo and true or false
end

--- Back to its line at once, for another attempt.
local function retry_job(q, job, outcome)
  redis.call('HSET', job.key, 'atm', integer(job.attempts_made + 1))
  push_back(q.keys, outcome.id, job.priority, is_lifo(job))
  mark_ready(q.keys, is_blocked(q.keys, q.meta))
  emit(q.keys, 'waiting', 'jobId', outcome.id, 'prev', 'active')
end

--- Into the delayed set, for another attempt (`spends_attempt`) or at the processor's wish.
local function postpone_job(q, job, outcome, delay_ms, spends_attempt)
  if spends_attempt then
    redis.call('HSET', job.key, 'delay', integer(delay_ms), 'atm', integer(job.attempts_made + 1))
  else
    redis.call('HSET', job.key, 'delay', integer(delay_ms))
  end
  delay_job(q.keys, outcome.id, q.now + delay_ms)
  mark_delayed(q.keys)
end

--- Back to the front of its line, with no attempt spent.
local function release_job(q, job, outcome)
  push_front(q.keys, outcome.id, job.priority)
  if job.priority == 0 then
    mark_ready(q.keys, is_blocked(q.keys, q.meta))
  end
  emit(q.keys, 'waiting', 'jobId', outcome.id, 'prev', 'active')
end

--- Park a parent; 1 when the child it names (or any, if it names none) is not pending.
local function await_children(q, job, outcome)
  local dependencies = job.key .. ':dependencies'
  if redis.call('ZCARD', job.key .. ':unsuccessful') > 0 then
    return -9
  end
  local pending
  if outcome.value ~= '' then
    pending = redis.call('SISMEMBER', dependencies, outcome.value)
  else
    pending = redis.call('SCARD', dependencies)
  end
  if pending == 0 then
    return 1
  end
  local code = check_lock(outcome.lock, outcome.token)
  code = code < 0 and code or leave_active(q, job, outcome)
  if code == 0 then
    redis.call('ZADD', q.keys.waiting_children, integer(q.now), outcome.id)
    emit(q.keys, 'waiting-children', 'jobId', outcome.id, 'prev', 'active')
  end
  return code
end

--- What each kind of outcome does to a job that has left active.
local LEAVE = {
  retried = retry_job,
  backoff = function(q, job, outcome) postpone_job(q, job, outcome, outcome.number, true) end,
  delayed = function(q, job, outcome) postpone_job(q, job, outcome, outcome.number, false) end,
  delayed_until = function(q, job, outcome)
    postpone_job(q, job, outcome, math.max(0, outcome.number - q.now), false)
  end,
  released = release_job,
  returned = function(q, job, outcome)
    redis.call('HSET', job.key, 'ats', integer(math.max(0, job.attempts_started - 1)))
    release_job(q, job, outcome)
  end,
  rate_limited = function(q, job, outcome)
    if outcome.number > 0 then
      redis.call('SET', q.keys.limiter, LIMIT_REACHED, 'PX', outcome.number)
    end
    release_job(q, job, outcome)
  end,
}
