--- Claim ready jobs: lock them, move them to active, hand out their fields.
--- @include clock events markers meta locks choose rate_limit
--- @uses wait active prioritized
--- @derived {prefix}{id}:lock string token of the worker that runs the job; expires
--- @event active drained

--- Set a field in the flat copy of a hash, too, so that the worker sees what Redis holds.
local function set_field(fields, name, value)
  local at = #fields + 1
  for i = 1, #fields, 2 do
    if fields[i] == name then
      at = i
    end
  end
  fields[at], fields[at + 1] = name, value
end

--- Lock one job and count the start. worker: token first_token lock_ms name.
local function activate(keys, candidate, token, worker, processed_on)
  local job_key, fields, shape, starts = candidate.key, candidate.fields, candidate.shape, '1'
  if token ~= NO_LOCK then
    redis.call('SET', job_key .. ':lock', token, 'PX', worker.lock_ms)
  end
  emit(keys, 'active', 'jobId', candidate.id, 'prev', 'waiting')
  if shape.has_run then -- else the worker knows these fields without being told
    starts = integer((tonumber(fields[shape.starts_at or 0]) or 0) + 1)
    candidate.is_changed = true
    set_field(fields, 'processedOn', processed_on)
    set_field(fields, 'ats', starts)
    if worker.name ~= '' then
      set_field(fields, 'pb', worker.name)
    end
  end
  if worker.name ~= '' then
    redis.call('HSET', job_key, 'processedOn', processed_on, 'ats', starts, 'pb', worker.name)
  else
    redis.call('HSET', job_key, 'processedOn', processed_on, 'ats', starts)
  end
end

--- Lock the chosen jobs, and number their tokens.
local function activate_all(keys, chosen, worker, now)
  local processed_on = integer(now)
  for n, candidate in ipairs(chosen) do
    candidate.number = token_number(worker.first_token, n)
    activate(keys, candidate, claim_token(worker.token, candidate.number), worker, processed_on)
  end
end

--- What a claim returns that gets none.
local function no_jobs(limit_ms, ran_out)
  return { jobs = {}, job_ids = {}, limit_ms = limit_ms, ran_out = ran_out, suspects = 0, any_iteration = false }
end

--- Claim up to `limit` jobs; due ones were promoted before. Returns jobs: see `append_jobs`; job_ids; limit_ms: how long
--- the rate limit forbids more; ran_out: whether no ready jobs are left that may start (false when the queue is paused,
--- limited or at its concurrency); suspects: how many of the jobs stalled before; any_iteration: whether a scheduler
--- made one of them.
local function claim_jobs(keys, meta, worker, limit, now)
  local limit_ms, allowance, duration = 0, nil, nil
  if meta.max or worker.limiter_max > 0 then
    limit_ms, allowance, duration = rate_limit(keys, meta, worker)
  end
  if limit_ms > 0 or is_blocked(keys, meta) then
    return no_jobs(limit_ms, false)
  end
  local room = math.min(limit, allowance or limit)
  if meta.concurrency then
    room = math.min(room, meta.concurrency - redis.call('LLEN', keys.active))
  end
  local choice = choose_jobs(keys, room, worker.suspects)
  activate_all(keys, choice.jobs, worker, now)
  if #choice.jobs > 0 then
    mark_ready(keys, false) -- every start wakes the next idle worker, whatever the limits: upstream relies on it
  end
  if allowance then
    spend_limit(keys, choice.jobs, duration)
  end
  take_chosen(keys, choice)
  choice.ran_out = #choice.jobs < room
  return choice
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
