--- Create or change a job scheduler, and the one job that it has pending.
--- Transition: (new) -> wait | prioritized | delayed;  a pending iteration -> removed.
--- @key schedulers zset scheduler id -> time of its pending iteration
--- @key id string counter of generated ids
--- @key wait list ids ready to run
--- @key paused list ids set aside by old versions
--- @key prioritized zset ids ready to run, by priority
--- @key pc string priority counter
--- @key delayed zset ids that wait for their time
--- @key active list read by the included settings
--- @key marker zset wakes idle workers
--- @key events stream
--- @key meta hash settings
--- @derived {prefix}repeat:{id} hash the scheduler
--- @derived {prefix}repeat:{id}:{ms} hash one iteration
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg now_ms int unix milliseconds; 0 = the server's TIME
--- @arg scheduler_id string
--- @arg name string of its jobs
--- @arg data string of its jobs, JSON
--- @arg template string options of its jobs, JSON; '' = none
--- @arg opts string options of this job, a JSON object with at least `repeat`
--- @arg every int interval in ms; 0 = by pattern
--- @arg pattern string cron pattern; '' = by interval
--- @arg slot int time of the next iteration by the pattern
--- @arg offset int shift of the slots of `every`
--- @arg start_ms int no iteration before; 0 = none
--- @arg priority int
--- @arg lifo int 1 = to the front of the wait list
--- @rows extras field value
--- extras: further fields of the record
--- @return [job id, its options, its delay in ms, now_ms]
--- @error -10 SchedulerIdTaken a job with the id of the next iteration exists
--- @error -11 SchedulerSlotsBusy the next 32 slots have jobs
--- @include clock schedulers upsert

local now = resolve_now(now_ms)
local row = {
  scheduler_id = scheduler_id, opts = opts, priority = priority, lifo = lifo, every = every, pattern = pattern,
  slot = slot, offset = offset, start_ms = start_ms,
}
local next_ms, kept_offset = choose_slot(keys, row, now)
if next_ms < 0 then
  return next_ms
end
write_scheduler(keys, row, { name = name, data = data, template = template }, extras, kept_offset)
local meta = read_meta(keys)
local record = { name = name, data = data }
local job_id, options, delay_ms = create_iteration(keys, row, record, next_ms, now, is_blocked(keys, meta))
trim_events(keys, meta)
return { job_id, options, delay_ms, now }
