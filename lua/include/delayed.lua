--- Delayed jobs: scores that keep the order within a millisecond, and promotion when they are due.
--- @include clock events markers ready
--- @uses delayed
--- @event delayed waiting

--- One millisecond has room for 4096 jobs in order.
local JOBS_PER_MS = 4096
--- Delayed jobs made ready per call, so that a large backlog never blocks Redis; the rest follows in the next call.
local PROMOTIONS_PER_CALL = 50

--- Score for a job due at a millisecond: behind those already there. last_score: the last of that millisecond, if
--- known.
local function delayed_score(keys, due_ms, last_score)
  local low = due_ms * JOBS_PER_MS
  local high = low + JOBS_PER_MS - 1
  if not last_score then
    local last = redis.call('ZREVRANGEBYSCORE', keys.delayed, integer(high), integer(low), 'WITHSCORES', 'LIMIT', '0', '1')
    last_score = tonumber(last[2] or low - 1)
  end
  return math.min(last_score + 1, high)
end

--- Put a job into the delayed set and announce it; returns its score. The event carries the absolute time, the hash the
--- delay.
local function delay_job(keys, job_id, due_ms, last_score)
  local score = delayed_score(keys, due_ms, last_score)
  redis.call('ZADD', keys.delayed, format_integer(score), job_id)
  emit(keys, 'delayed', 'jobId', job_id, 'delay', integer(due_ms))
  return score
end

--- Priority of a job; nil for an id without a hash (upstream would make a ghost of it).
local function read_priority(job_key)
  local priority = redis.pcall('HGET', job_key, 'priority')
  if type(priority) == 'table' or (not priority and redis.call('EXISTS', job_key) == 0) then
    return nil
  end
  return tonumber(priority or 0) or 0
end

--- Make due jobs ready, at most `limit`; returns how many ids were due. They leave the delayed set when they
--- have their places, so that none is lost if the call fails.
local function promote_delayed(keys, now, blocked, limit)
  local latest = integer((now + 1) * JOBS_PER_MS - 1)
  local due = redis.call('ZRANGEBYSCORE', keys.delayed, '0', latest, 'LIMIT', '0', integer(limit))
  if #due == 0 then
    return 0
  end
  local line = new_line()
  for _, job_id in ipairs(due) do
    local job_key = keys.prefix .. job_id
    local priority = read_priority(job_key)
    if priority then
      join_line(line, job_id, priority, false)
      emit(keys, 'waiting', 'jobId', job_id, 'prev', 'delayed')
      redis.call('HSET', job_key, 'delay', '0')
    end
  end
  local any_ready = push_line(keys, line)
  redis.call('ZREM', keys.delayed, unpack(due))
  if any_ready then
    mark_ready(keys, blocked)
  end
  return #due
end
