--- Which slot a created or changed scheduler takes, and its record.
--- @include clock schedulers remove
--- @uses delayed prioritized wait paused schedulers
--- @error -10 SchedulerIdTaken a job with the id of the next iteration exists
--- @error -11 SchedulerSlotsBusy the next 32 slots have jobs

--- Slots that are tried when a job with the iteration's id exists.
local MAX_SLOTS_TRIED = 32

--- Whether a pending iteration, one that no worker has taken, was in its place and is out of it now.
local function take_pending(keys, job_id)
  return redis.call('ZREM', keys.delayed, job_id) == 1
    or redis.call('ZREM', keys.prioritized, job_id) == 1
    or redis.call('LREM', keys.wait, 1, job_id) == 1
    or redis.call('LREM', keys.paused, 1, job_id) == 1
end

local function is_pending(keys, job_id)
  return redis.call('EXISTS', keys.prefix .. job_id) == 1 and (
    redis.call('ZSCORE', keys.delayed, job_id) or redis.call('ZSCORE', keys.prioritized, job_id)
    or redis.call('LPOS', keys.wait, job_id) or redis.call('LPOS', keys.paused, job_id)
  ) and true or false
end

local function is_taken(keys, scheduler_id, slot)
  return redis.call('EXISTS', keys.prefix .. iteration_id(scheduler_id, slot)) == 1
end

--- The first slot from `slot` on that has no job; -11 if there is none near.
local function free_slot(keys, row, slot)
  for _ = 0, MAX_SLOTS_TRIED do
    if not is_taken(keys, row.scheduler_id, slot) then
      return slot
    end
    slot = slot + row.every
  end
  return -11
end

--- The slot by the pattern. A pending iteration may be replaced; any other job in the slot stays: where the pattern is
--- the same, the slot's job ran before its time, and the pending one is the next.
local function pattern_slot(keys, row, stored, previous, pending)
  if not is_taken(keys, row.scheduler_id, row.slot) or (pending and row.slot == previous) then
    return row.slot
  end
  return pending and stored.pattern == row.pattern and previous or -10
end

--- Time of the scheduler's next iteration, or an error code, and its offset. The iteration that was pending is removed.
local function choose_slot(keys, row, now)
  local values = redis.call('HMGET', keys.prefix .. 'repeat:' .. row.scheduler_id, 'every', 'offset', 'pattern')
  local stored = { every = tonumber(values[1] or nil), offset = values[2], pattern = values[3] }
  local previous = tonumber(redis.call('ZSCORE', keys.schedulers, row.scheduler_id) or nil)
  local pending_id = previous and iteration_id(row.scheduler_id, previous)
  local pending = pending_id and is_pending(keys, pending_id)
  local slot, offset
  if row.every > 0 then
    local same = stored.every == row.every
    slot, offset = next_slot(same and previous or nil, row.every, now, row.offset, row.start_ms)
    if pending and same then
      slot = previous
    end
    slot = pending and slot == previous and slot or free_slot(keys, row, slot)
  else
    slot, offset = pattern_slot(keys, row, stored, previous, pending), 0
  end
  if slot >= 0 and pending then
    take_pending(keys, pending_id)
    remove_job(keys, pending_id, true, true)
    offset = row.offset > 0 and row.offset or tonumber(stored.offset or nil)
  end
  return slot, offset
end

--- Write the record anew; only the count of its iterations stays.
local function write_scheduler(keys, row, jobs, extras, offset)
  local key = keys.prefix .. 'repeat:' .. row.scheduler_id
  local fields = { 'name', jobs.name, 'ic', redis.call('HGET', key, 'ic') or '1' }
  local function add(name, value)
    if value and value ~= '' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  add('every', row.every > 0 and integer(row.every))
  add('pattern', row.pattern)
  add('offset', offset and integer(offset))
  add('data', jobs.data ~= '{}' and jobs.data)
  add('opts', jobs.template)
  for _, extra in ipairs(extras) do
    add(extra.field, extra.value)
  end
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(fields))
end
