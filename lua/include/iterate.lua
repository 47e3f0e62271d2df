--- The next iteration of one scheduler.
--- @include clock events meta schedulers legacy
--- @uses schedulers
--- @event duplicated

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
    slot = next_slot(previous, every, now, tonumber(values[4] or nil) or row.offset, row.start_ms)
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
