--- The two phases of the stalled check.
--- @include clock events markers meta
--- @uses stalled active wait schedulers
--- @event waiting stalled

--- Marked jobs looked at per call, so that thousands of them never block Redis: a millisecond if all are recovered.
local MARKS_PER_CALL = 200
--- Ids passed to one command.
local IDS_PER_COMMAND = 1000
local STALLED_TOO_OFTEN = 'job stalled more than allowable limit'

--- Whether the job is an iteration of a scheduler that still exists: those may stall without limit.
local function is_scheduled(keys, scheduler_id)
  return redis.call('EXISTS', keys.prefix .. 'repeat:' .. scheduler_id) == 1
    or redis.call('ZSCORE', keys.schedulers, scheduler_id)
end

--- Count the stall and say that the job is first in line. Over the limit, it will be failed when it is taken.
local function recover_job(keys, job_id, max_stalled_count)
  local job_key = keys.prefix .. job_id
  if redis.call('HINCRBY', job_key, 'stc', 1) > max_stalled_count then
    local scheduler_id = redis.call('HGET', job_key, 'rjk')
    if not (scheduler_id and is_scheduled(keys, scheduler_id)) then
      redis.call('HSET', job_key, 'defa', STALLED_TOO_OFTEN)
    end
  end
  emit(keys, 'waiting', 'jobId', job_id, 'prev', 'active')
  emit(keys, 'stalled', 'jobId', job_id)
end

--- Those of the marked jobs that nobody holds a lock on.
local function without_lock(keys, marked)
  local lock_keys, job_ids = {}, {}
  for i, job_id in ipairs(marked) do
    lock_keys[i] = keys.prefix .. job_id .. ':lock'
  end
  local locks = #marked > 0 and redis.call('MGET', unpack(lock_keys)) or {}
  for i, job_id in ipairs(marked) do
    if not locks[i] then
      job_ids[#job_ids + 1] = job_id
    end
  end
  return job_ids
end

--- Recover marked jobs that have no lock. Returns their ids, and whether marks are left for another call. An id
--- without a hash is dropped: upstream would make a ghost of it. One with a damaged hash still goes to its next worker.
local function recover_marked(keys, meta, max_stalled_count)
  local recovered = {}
  local marked = redis.call('SPOP', keys.stalled, MARKS_PER_CALL)
  for _, job_id in ipairs(without_lock(keys, marked)) do
    if redis.call('LREM', keys.active, '1', job_id) > 0 and redis.call('EXISTS', keys.prefix .. job_id) == 1 then
      pcall(recover_job, keys, job_id, max_stalled_count)
      recovered[#recovered + 1] = job_id
    end
  end
  if #recovered > 0 then
    redis.call('RPUSH', keys.wait, unpack(recovered))
    mark_ready(keys, is_blocked(keys, meta))
  end
  return recovered, #marked == MARKS_PER_CALL and redis.call('EXISTS', keys.stalled) == 1
end

--- Mark every active job.
local function mark_active(keys)
  local active = redis.call('LRANGE', keys.active, 0, -1)
  for first = 1, #active, IDS_PER_COMMAND do
    redis.call('SADD', keys.stalled, unpack(active, first, math.min(first + IDS_PER_COMMAND - 1, #active)))
  end
end
