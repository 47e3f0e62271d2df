--- Add many jobs. What they share (counter, ready list, marker, stream cap) is done once per call.
--- @include clock errors events markers ready delayed job parents deduplication meta
--- @uses id wait waiting_children completed
--- @error -5 ParentNotFound the parent's hash is missing
--- @error -7 ParentNotReplaceable the existing job belongs to another parent
--- @event duplicated waiting waiting-children

local CREATED, DUPLICATE, DEDUPLICATED, REPLACED = 0, 1, 2, 3

--- A job with this id exists: attach it to the new parent, if any, and say so.
local function attach_existing(keys, job, job_id)
  local job_key = keys.prefix .. job_id
  if job.parent_key ~= '' then
    local owner = redis.call('HGET', job_key, 'parentKey')
    if owner and owner ~= job.parent_key and redis.call('EXISTS', owner) == 1 then
      return -7
    end
    if redis.call('ZSCORE', keys.completed, job_id) then
      redis.call('HSET', job.parent_key .. ':processed', job_key, redis.call('HGET', job_key, 'returnvalue') or 'null')
      release_parent_if_ready(job.parent_key, job.now)
    else
      redis.call('SADD', job.parent_key .. ':dependencies', job_key)
    end
    redis.call('HSET', job_key, 'parentKey', job.parent_key, 'parent', job.parent)
  end
  emit(keys, 'duplicated', 'jobId', job_id)
  return DUPLICATE
end

--- Put a stored job into its place. Ready jobs are only noted in `ready`: they are pushed together.
local function place_job(keys, job, job_id, timestamp, ready)
  if job.placement == 'children' then
    redis.call('ZADD', keys.waiting_children, integer(timestamp), job_id)
    emit(keys, 'waiting-children', 'jobId', job_id)
  elseif job.delay_ms > 0 then
    delay_job(keys, job_id, timestamp + job.delay_ms)
    mark_delayed(keys)
  else
    if job.priority > 0 then
      push_prioritized(keys, job_id, job.priority)
    else
      local ids = job.placement == 'lifo' and ready.lifo or ready.fifo
      ids[#ids + 1] = job_id
    end
    ready.any = true
    emit(keys, 'waiting', 'jobId', job_id)
  end
end

--- Add one job; returns its id and status.
local function add_job(keys, job, job_id, is_custom, ready)
  if is_custom and redis.call('EXISTS', keys.prefix .. job_id) == 1 then
    return job_id, attach_existing(keys, job, job_id)
  end
  local timestamp = job.timestamp_ms > 0 and job.timestamp_ms or job.now
  local status = CREATED
  if job.dedup ~= '' then
    local options = cjson.decode(job.dedup)
    local owner, replaced = deduplicate(keys, job, job_id, options, timestamp)
    if owner then
      return owner, DEDUPLICATED
    end
    job.deduplication_id = options.id
    status = replaced and REPLACED or CREATED
  end
  ready.created[#ready.created + 1] = keys.prefix .. job_id
  store_job(keys, job_id, job, timestamp)
  place_job(keys, job, job_id, timestamp, ready)
  if job.parent_key ~= '' then
    redis.call('SADD', job.parent_key .. ':dependencies', keys.prefix .. job_id)
  end
  return job_id, status
end

--- Number the jobs: every one spends a number, also with an id of its own, but not one whose parent is missing (a
--- parent may come earlier in the same call). Custom ids never are integers, so a number is free.
local function number_jobs(keys, jobs)
  local spent, in_this_call = 0, {}
  for _, job in ipairs(jobs) do
    job.has_parent = job.parent_key == '' or in_this_call[job.parent_key]
      or redis.call('EXISTS', job.parent_key) == 1
    in_this_call[keys.prefix .. job.job_id] = job.has_parent
    if job.has_parent then
      spent = spent + 1
    end
  end
  local number = spent > 0 and redis.call('INCRBY', keys.id, spent) - spent or 0
  for _, job in ipairs(jobs) do
    if job.has_parent then
      number = number + 1
      job.number = integer(number)
    end
  end
end

--- Push what is ready and wake a worker. If that fails (a key of the queue was overwritten by something else) the
--- jobs of this call are taken back, so that none is left half-written.
local function push_ready(keys, meta, ready)
  local pushed, problem = pcall(function()
    if #ready.fifo > 0 then
      redis.call('LPUSH', keys.wait, unpack(ready.fifo))
    end
    if #ready.lifo > 0 then
      redis.call('RPUSH', keys.wait, unpack(ready.lifo))
    end
  end)
  if not pushed then
    redis.call('DEL', unpack(ready.created))
    error(problem, 0)
  end
  if ready.any then
    mark_ready(keys, is_blocked(keys, meta))
  end
end

--- Add all jobs; returns ids and statuses in order. A status is a number, or the text of the error of this one job.
local function add_jobs(keys, jobs, now)
  number_jobs(keys, jobs)
  local meta = read_meta(keys)
  local ready = { fifo = {}, lifo = {}, created = {}, any = false }
  local job_ids, statuses = {}, {}
  for i, job in ipairs(jobs) do
    job.now = now
    job_ids[i], statuses[i] = '', -5
    if job.has_parent then
      local is_custom = job.job_id ~= ''
      local job_id = is_custom and job.job_id or job.number
      local known = #ready.created
      local added, id, status = pcall(add_job, keys, job, job_id, is_custom, ready)
      job_ids[i], statuses[i] = added and id or job_id, added and status or error_text(id)
      if not added and #ready.created > known then
        redis.call('DEL', table.remove(ready.created))
      end
    end
  end
  push_ready(keys, meta, ready)
  trim_events(keys, meta)
  return job_ids, statuses
end
