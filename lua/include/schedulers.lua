--- Job schedulers: their records, their slots, and the jobs (iterations) that they create.
--- @include clock job
--- @uses schedulers id

--- Every `interval` ms the present slot begins at a multiple of it, shifted.
local function slot_after(now, interval, offset)
  local aligned = math.floor(now / interval) * interval + offset
  return aligned > now and aligned or aligned + interval
end

--- Time of the next iteration of an `every` scheduler, and the offset to remember. previous: time of the one before, or
--- nil; start_ms: 0 = none. Slots that have passed are skipped, not made up for.
local function next_slot(previous, interval, now, offset, start_ms)
  local slot
  if previous then
    slot = previous + interval
    if slot < now then
      slot = slot_after(now, interval, offset)
    end
  elseif start_ms > 0 then
    slot = math.max(start_ms, now)
  elseif offset > 0 then
    slot = slot_after(now, interval, offset)
  else
    slot = now
  end
  return slot, offset ~= 0 and offset or slot % interval
end

local function iteration_id(scheduler_id, slot)
  return 'repeat:' .. scheduler_id .. ':' .. integer(slot)
end

--- Options of an iteration: those it was given, as JSON text, and what only its time decides. Text is appended, because
--- Lua's JSON would change the rest.
local function iteration_options(row, job_id, slot, now)
  local fields = {
    '"repeatJobKey":' .. cjson.encode(row.scheduler_id),
    '"jobId":' .. cjson.encode(job_id),
    '"delay":' .. integer(math.max(0, slot - now)),
    '"timestamp":' .. integer(now),
  }
  if row.every == 0 then
    fields[#fields + 1] = '"prevMillis":' .. integer(slot)
  end
  return string.sub(row.opts, 1, -2) .. ',' .. table.concat(fields, ',') .. '}'
end

--- Create the iteration of a slot. row: scheduler_id opts every priority lifo; record: name data. Returns its id,
--- options and delay.
local function create_iteration(keys, row, record, slot, now, blocked)
  local job_id = iteration_id(row.scheduler_id, slot)
  local delay_ms = math.max(0, slot - now)
  redis.call('ZADD', keys.schedulers, integer(slot), row.scheduler_id)
  redis.call('INCR', keys.id)
  local opts = iteration_options(row, job_id, slot, now)
  enqueue_job(keys, job_id, {
    name = record.name, data = record.data, opts = opts, delay_ms = delay_ms,
    priority = row.priority, lifo = row.lifo == 1, scheduler_id = row.scheduler_id,
  }, now, blocked)
  return job_id, opts, delay_ms
end
