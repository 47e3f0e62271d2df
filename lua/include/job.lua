--- Create a job: its hash, its place in the queue, its events.
--- @include clock events markers ready delayed staged
--- @event added waiting delayed

local function append_field(fields, name, value)
  if value and value ~= '' then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end

local NO_FIELDS = {}

--- Fields that only some jobs have, as names and values; most have none.
local function optional_fields(job)
  if job.parent_key == '' and not (job.scheduler_id or job.deduplication_id or job.staged) then
    return NO_FIELDS
  end
  local fields = {}
  append_field(fields, 'parentKey', job.parent_key)
  append_field(fields, 'parent', job.parent)
  append_field(fields, 'rjk', job.scheduler_id)
  append_field(fields, 'deid', job.deduplication_id)
  if job.staged then
    append_field(fields, STAGED, job.staged)
  end
  return fields
end

--- Write the hash of a new job. `job`: name data opts delay_ms priority, and parent_key parent scheduler_id
--- deduplication_id staged where they are not ''.
local function write_job(job_key, job, timestamp)
  redis.call('HSET', job_key, 'name', job.name, 'data', job.data, 'opts', job.opts, 'timestamp', integer(timestamp),
    'delay', integer(job.delay_ms), 'priority', integer(job.priority), unpack(optional_fields(job)))
end

local function announce_job(keys, job_id, name)
  emit(keys, 'added', 'jobId', job_id, 'name', name)
end

--- Write a new job and say so.
local function store_job(keys, job_id, job, timestamp)
  write_job(keys.prefix .. job_id, job, timestamp)
  announce_job(keys, job_id, job.name)
end

--- Store a job and put it in its place: what schedulers and keep-last deduplication do at `now`.
local function enqueue_job(keys, job_id, job, now, blocked)
  store_job(keys, job_id, job, now)
  if job.delay_ms > 0 then
    delay_job(keys, job_id, now + job.delay_ms)
    mark_delayed(keys)
    return
  end
  push_back(keys, job_id, job.priority, job.lifo)
  mark_ready(keys, blocked)
  emit(keys, 'waiting', 'jobId', job_id)
end
