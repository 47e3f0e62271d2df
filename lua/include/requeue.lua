--- Ways for an active job to go back: to its line, to the delayed set, to its children.
--- @include clock events ready delayed locks leave_active
--- @uses waiting_children limiter
--- @event waiting delayed waiting-children

--- A manual rate limit: more than any limit allows.
local LIMIT_REACHED = '9007199254740991'

--- Whether the job asked to be served last in, first out. Few do, so most options need not be decoded.
local function is_lifo(job)
  local text = redis.call('HGET', job.key, 'opts') or ''
  if not string.find(text, 'lifo', 1, true) then
    return false
  end
  local readable, options = pcall(cjson.decode, text)
  return readable and type(options) == 'table' and options.lifo and true or false
end

--- Back to its line at once, for another attempt.
local function retry_job(q, job, outcome)
  write_attempt(job, outcome, 'failedReason', outcome.value, 'atm', integer(attempts_made(job)))
  push_back(q.keys, outcome.id, job.priority, job.priority == 0 and is_lifo(job))
  q.batch.any_ready = true
  emit(q.keys, 'waiting', 'jobId', outcome.id, 'prev', 'active')
end

--- Into the delayed set.
local function postpone_job(q, outcome, delay_ms)
  delay_job(q.keys, outcome.id, q.now + delay_ms)
  q.batch.any_delayed = true
end

--- Into the delayed set at the processor's wish: no attempt is spent.
local function delay_by_wish(q, job, outcome, delay_ms)
  redis.call('HSET', job.key, 'delay', integer(delay_ms))
  postpone_job(q, outcome, delay_ms)
end

--- Back to the front of its line, with no attempt spent. Upstream wakes nobody for a job with a priority, which then
--- waits until some worker's blocking pop runs out. priority_place: a score in its priority, the first if not given.
local function release_job(q, job, outcome, priority_place)
  push_front(q.keys, outcome.id, job.priority, priority_place)
  q.batch.any_ready = true
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
  local code = check_lock(job.lock, outcome.token)
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
  backoff = function(q, job, outcome)
    write_attempt(job, outcome, 'failedReason', outcome.value, 'atm', integer(attempts_made(job)), 'delay',
      integer(outcome.details.number))
    postpone_job(q, outcome, outcome.details.number)
  end,
  delayed = function(q, job, outcome) delay_by_wish(q, job, outcome, outcome.details.number) end,
  delayed_until = function(q, job, outcome) delay_by_wish(q, job, outcome, math.max(0, outcome.details.number - q.now)) end,
  released = release_job,
  returned = function(q, job, outcome)
    redis.call('HSET', job.key, 'ats', integer(math.max(0, (tonumber(job.attempts_started or 0) or 0) - 1)))
    release_job(q, job, outcome, job.priority > 0 and foremost_score(q.keys, job.priority))
  end,
  rate_limited = function(q, job, outcome)
    if outcome.details.number > 0 then
      redis.call('SET', q.keys.limiter, LIMIT_REACHED, 'PX', integer(outcome.details.number))
    end
    release_job(q, job, outcome)
  end,
}

--- Outcomes that only give the job back: for one that is not active any more, that is done.
local GIVES_BACK = { released = true, returned = true, rate_limited = true }
