--- The next iteration of one scheduler.
--- @include clock events meta schedulers legacy
--- @uses schedulers
--- @event duplicated

--- Workers under load take jobs later than these intervals are long: what upstream passes over then is made up for, one
--- job after the other, unless the schedule has fallen back further. From a second on, upstream's rule holds.
local SHORT_INTERVAL_MS = 1000
local MADE_UP_MS = 5000

--- The slot that is over already and is made up for all the same, or nil.
local function late_slot(previous, interval, now)
  local slot = previous + interval
  if interval < SHORT_INTERVAL_MS and slot < now and now - slot < MADE_UP_MS then
    return slot
  end
end

--- Create it, unless the scheduler is gone or has gone on: stale runs, retries and stalled jobs schedule nothing twice.
--- Returns its id, '' or 'legacy'.
local function iterate(keys, meta, row, now)
  local previous = tonumber(redis.call('ZSCORE', keys.schedulers, row.scheduler_id) or nil)
  if not previous then
    return ''
  end
  local key = keys.prefix .. 'repeat:' .. row.scheduler_id
  local values = redis.call('HMGET', key, 'name', 'data', 'every', 'offset', 'ic')
  if not values[5] then
    return is_legacy(row.scheduler_id) and 'legacy' or ''
  elseif row.producer_id ~= iteration_id(row.scheduler_id, previous) then
    return ''
  end
  local slot = row.slot
  if slot == 0 then
    local every = tonumber(values[3] or nil) or row.every
    slot = late_slot(previous, every, now)
      or next_slot(previous, every, now, tonumber(values[4] or nil) or row.offset, row.start_ms)
  end
  local job_id = iteration_id(row.scheduler_id, slot)
  if redis.call('EXISTS', keys.prefix .. job_id) == 1 then
    emit(keys, 'duplicated', 'jobId', job_id)
    return ''
  elseif slot ~= previous then
    redis.call('HINCRBY', key, 'ic', 1)
  end
  local record = { name = values[1] or row.scheduler_id, data = values[2] or '{}' }
  create_iteration(keys, row, record, slot, now, is_blocked(keys, meta))
  return job_id
end
