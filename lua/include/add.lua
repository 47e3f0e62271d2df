--- Add many jobs. What they share (counter, ready lists, markers, stream cap) is done once per call.
--- @include clock errors job deduplicate remove duplicate staged place
--- @uses id
--- @error -5 ParentNotFound the parent's hash is missing

local CREATED, DUPLICATE, DEDUPLICATED, REPLACED = 0, 1, 2, 3

--- Whether its parent exists. The nodes of a flow know when the same call has stored it.
local function has_parent(job)
  return job.has_parent or redis.pcall('EXISTS', job.parent_key) == 1
end

--- Whether a job with its id exists. The nodes of a flow were looked up before.
local function is_duplicate(job, job_key)
  if job.exists ~= nil then
    return job.exists
  end
  return job.job_id ~= '' and redis.call('EXISTS', job_key) == 1
end

--- Whether none of the jobs has this field.
local function none_has(jobs, field)
  for _, job in ipairs(jobs) do
    if job[field] ~= '' then
      return false
    end
  end
  return true
end

--- Number the jobs; returns how many numbers were spent. Every job spends one, also with an id of its own, but not one
--- whose parent is missing (a parent may come earlier in the same call). Custom ids never are integers, so a number is
--- free.
local function number_jobs(keys, jobs)
  local numbered, in_this_call = {}, {}
  local before = not none_has(jobs, 'parent_key') and (tonumber(redis.call('GET', keys.id) or 0) or 0)
  for _, job in ipairs(jobs) do
    if job.parent_key == '' or in_this_call[job.parent_key] or has_parent(job) then
      numbered[#numbered + 1] = job
      if before then
        in_this_call[keys.prefix .. (job.job_id ~= '' and job.job_id or integer(before + #numbered))] = true
      end
    end
  end
  local last = #numbered > 0 and redis.call('INCRBY', keys.id, integer(#numbered)) or 0
  for i, job in ipairs(numbered) do
    job.number = format_integer(last - #numbered + i)
  end
  return #numbered
end

--- Add one job; returns its id and status. q: keys now line. A job that is only staged gets its place by this add.
local function add_job(q, job, job_id)
  local keys = q.keys
  local job_key = keys.prefix .. job_id
  if is_duplicate(job, job_key) then
    if belongs_to_another(job_key, job.parent_key, q.now) then
      return job_id, -7
    elseif not take_staged(job_key) then
      attach_existing(keys, job, job_id)
      return job_id, DUPLICATE
    end
  end
  local timestamp = job.timestamp_ms > 0 and job.timestamp_ms or q.now
  local status = CREATED
  if job.dedup ~= '' then
    local options = cjson.decode(job.dedup)
    job.deduplication_id = options.id
    local owner, replaced = deduplicate(keys, job, job_id, options, timestamp)
    q.scores = {} -- it may have moved or removed a delayed job
    if owner then
      return owner, DEDUPLICATED
    end
    status = replaced and REPLACED or CREATED
  end
  write_job(job_key, job, timestamp)
  job.is_stored = true
  announce_job(keys, job_id, job.name)
  if job.parent_key ~= '' and not job.in_flow then
    redis.call('SADD', job.parent_key .. ':dependencies', job_key)
  end
  place_job(q, job, job_id, timestamp)
  return job_id, status
end

--- Take back what an add that failed half-way has written: no id may stay behind without its job.
local function undo_add(keys, job, job_id)
  if job.is_stored then
    redis.call('DEL', keys.prefix .. job_id)
    redis.pcall('SREM', job.parent_key .. ':dependencies', keys.prefix .. job_id)
  end
  pcall(free_deduplication, keys, job_id, job.deduplication_id)
end

--- Add one job that must not spoil the others; returns its id and status, which is the text of an error, if any.
local function try_to_add(q, job)
  if not job.number or (job.parent_key ~= '' and not has_parent(job)) then
    return '', -5
  end
  local job_id = job.job_id ~= '' and job.job_id or job.number
  local added, id, status = pcall(add_job, q, job, job_id)
  if added then
    return id, status
  end
  undo_add(q.keys, job, job_id)
  return job_id, error_text(id)
end

--- Add all jobs; returns ids and statuses in order. A status is a number, or the text of the error of this one job.
local function add_jobs(keys, jobs, now)
  local job_ids, statuses = {}, {}
  local q = open_places(keys, now, #jobs == 1)
  if number_jobs(keys, jobs) > 0 then
    cap_with_next_event(keys, q.meta)
  end
  for i, job in ipairs(jobs) do
    job.now = now
    job_ids[i], statuses[i] = try_to_add(q, job)
  end
  close_places(q)
  return job_ids, statuses
end
