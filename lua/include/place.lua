--- Put new jobs into their places. What the jobs of one queue share is written once per call.
--- @include clock events markers ready delayed meta
--- @uses wait prioritized waiting_children
--- @event waiting waiting-children

--- What the jobs share that one call places in one queue; scores: the last of the delayed ones, by millisecond. One job
--- alone enters its line by itself.
local function open_places(keys, now, is_lone)
  return {
    keys = keys, now = now, meta = read_meta(keys), line = not is_lone and new_line(), parents = {}, any_ready = false,
    any_delayed = false, scores = {}, intact = {},
  }
end

--- Fail before a job joins those that are placed at the end, if the key for them was overwritten by something else.
--- It happens: other clients accept `wait` as the id of a job.
local function check_place(q, name)
  if not q.intact[name] then
    redis.call(name == 'wait' and 'LLEN' or 'ZCARD', q.keys[name])
    q.intact[name] = true
  end
end

--- Put a stored job into its place. Ready jobs and parents only join `q.line` and `q.parents`, written at the end.
local function place_job(q, job, job_id, timestamp)
  local keys = q.keys
  if job.placement == 'children' then
    check_place(q, 'waiting_children')
    q.parents[#q.parents + 1] = integer(timestamp)
    q.parents[#q.parents + 1] = job_id
    emit(keys, 'waiting-children', 'jobId', job_id)
  elseif job.delay_ms > 0 then
    local due_ms = timestamp + job.delay_ms
    q.scores[due_ms] = delay_job(keys, job_id, due_ms, q.scores[due_ms])
    q.any_delayed = true
  else
    local lifo = job.placement == 'lifo'
    if q.line then
      check_place(q, job.priority > 0 and 'prioritized' or 'wait')
      join_line(q.line, job_id, job.priority, lifo)
    else
      push_back(keys, job_id, job.priority, lifo)
      q.any_ready = true
    end
    emit(keys, 'waiting', 'jobId', job_id)
  end
end

--- Write what they share.
local function close_places(q)
  if #q.parents > 0 then
    redis.call('ZADD', q.keys.waiting_children, unpack(q.parents))
  end
  if q.any_ready or (q.line and push_line(q.keys, q.line)) then
    mark_ready(q.keys, is_blocked(q.keys, q.meta))
  end
  if q.any_delayed then
    mark_delayed(q.keys)
  end
end
