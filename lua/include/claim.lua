--- Claim ready jobs: lock them, move them to active, hand out their fields.
--- @include clock events markers meta locks choose rate_limit
--- @uses wait active prioritized
--- @derived {prefix}{id}:lock string token of the worker that runs the job; expires
--- @event active drained

--- Set a field in the hash's flat copy, too, so that the worker sees what Redis holds.
local function set_field(candidate, name, value)
  local position = candidate.position[name]
  if not position then
    position = #candidate.fields + 2
    candidate.fields[position - 1] = name
  end
  candidate.fields[position] = value
end

--- Lock one job and count the start. worker: token first_token lock_ms name.
local function activate(keys, candidate, token, worker, now)
  local job_key = keys.prefix .. candidate.id
  local position = candidate.position
  local processed_on = integer(now)
  local started = integer((position.ats and tonumber(candidate.fields[position.ats]) or 0) + 1)
  if token ~= NO_LOCK then
    redis.call('SET', job_key .. ':lock', token, 'PX', integer(worker.lock_ms))
  end
  emit(keys, 'active', 'jobId', candidate.id, 'prev', 'waiting')
  set_field(candidate, 'processedOn', processed_on)
  set_field(candidate, 'ats', started)
  if worker.name ~= '' then
    set_field(candidate, 'pb', worker.name)
    redis.call('HSET', job_key, 'processedOn', processed_on, 'ats', started, 'pb', worker.name)
  else
    redis.call('HSET', job_key, 'processedOn', processed_on, 'ats', started)
  end
end

--- The token of the n-th claim (from 1): numbered, or as given for a single claim.
local function claim_token(worker, n)
  if worker.first_token < 0 then
    return worker.token
  end
  return worker.token .. ':' .. integer(worker.first_token + n - 1)
end

--- Lock the chosen jobs; returns rows of id, token, flat fields.
local function activate_all(keys, chosen, worker, now)
  local claimed = {}
  for n, candidate in ipairs(chosen) do
    local token = claim_token(worker, n)
    activate(keys, candidate, token, worker, now)
    claimed[n] = { candidate.id, token, candidate.fields }
  end
  return claimed
end

--- Claim up to `limit` jobs; due ones were promoted before. Returns them, how long the rate limit forbids more (ms), and
--- whether the queue has run out of ready jobs that may start (false when it is paused, limited or at its concurrency).
local function claim_jobs(keys, meta, worker, limit, now)
  local limit_ms, allowance, duration = rate_limit(keys, meta, worker)
  if limit_ms > 0 or is_blocked(keys, meta) then
    return {}, limit_ms, false
  end
  local room = math.min(limit, allowance or limit)
  if meta.concurrency then
    room = math.min(room, meta.concurrency - redis.call('LLEN', keys.active))
  end
  local choice = choose_jobs(keys, room, worker.suspects)
  local claimed = activate_all(keys, choice.jobs, worker, now)
  if #claimed > 0 then
    mark_ready(keys, false) -- every start wakes the next idle worker, whatever the limits: upstream relies on it
  end
  if allowance then
    spend_limit(keys, choice.jobs, duration)
  end
  take_chosen(keys, choice)
  return claimed, 0, #claimed < room
end

--- Put the markers back for another worker: work that is ready, and the next delayed job.
local function rearm_marker(keys, meta)
  if redis.call('LLEN', keys.wait) > 0 or redis.call('ZCARD', keys.prioritized) > 0 then
    mark_ready(keys, is_blocked(keys, meta))
  end
  mark_delayed(keys)
end

--- Say that nothing is left to do, if so; delayed jobs and parents that wait do not count.
local function announce_drained(keys)
  if redis.call('LLEN', keys.wait) == 0 and redis.call('LLEN', keys.active) == 0
    and redis.call('ZCARD', keys.prioritized) == 0 then
    emit(keys, 'drained')
  end
end
