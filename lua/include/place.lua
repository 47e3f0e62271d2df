--- Put new jobs into their places. What the jobs of one queue share is written once per call.
--- @include clock events markers ready delayed meta
--- @uses wait prioritized waiting_children
--- @event waiting waiting-children

--- What the jobs share that one call places in one queue.
local function open_places(keys, now)
  return { keys = keys, now = now, line = new_line(), any_delayed = false, intact = {} }
end

--- Fail before a job joins the line if the key it will be pushed to was overwritten by something else. It happens:
--- other clients accept `wait` as the id of a job.
local function check_line(q, name)
  if not q.intact[name] then
    redis.call(name == 'wait' and 'LLEN' or 'ZCARD', q.keys[name])
    q.intact[name] = true
  end
end

--- Put a stored job into its place. Ready jobs only join `q.line`, which is pushed at the end.
local function place_job(q, job, job_id, timestamp)
  local keys = q.keys
  if job.placement == 'children' then
    redis.call('ZADD', keys.waiting_children, integer(timestamp), job_id)
    emit(keys, 'waiting-children', 'jobId', job_id)
  elseif job.delay_ms > 0 then
    delay_job(keys, job_id, timestamp + job.delay_ms)
    q.any_delayed = true
  else
    check_line(q, job.priority > 0 and 'prioritized' or 'wait')
    join_line(q.line, job_id, job.priority, job.placement == 'lifo')
    emit(keys, 'waiting', 'jobId', job_id)
  end
end

--- Write what they share; `emitted` is false for a call without events.
local function close_places(q, emitted)
  local meta = read_meta(q.keys)
  if push_line(q.keys, q.line) then
    mark_ready(q.keys, is_blocked(q.keys, meta))
  end
  if q.any_delayed then
    mark_delayed(q.keys)
  end
  if emitted then
    trim_events(q.keys, meta)
  end
end
