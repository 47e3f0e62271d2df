--- Create the next iterations of job schedulers whose pending ones were taken by a worker (or are lost).
--- Transition: (new) -> wait | prioritized | delayed.
--- @key schedulers zset scheduler id -> time of its pending iteration
--- @key id string counter of generated ids
--- @key wait list ids ready to run
--- @key prioritized zset ids ready to run, by priority
--- @key pc string priority counter
--- @key delayed zset ids that wait for their time
--- @key active list read by the included settings
--- @key marker zset wakes idle workers
--- @key events stream
--- @key meta hash settings
--- @derived {prefix}repeat:{id} hash a scheduler
--- @derived {prefix}repeat:{id}:{ms} hash one iteration
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg now_ms int unix milliseconds; 0 = the server's TIME
--- @rows iterations scheduler_id producer_id opts every:int offset:int start_ms:int slot:int priority:int lifo:int
--- producer_id: the iteration that was taken; opts: options of the next one, with at least `repeat`; slot: its time, 0 =
--- by `every`
--- @return one text per row: id of the new job; '' = nothing to do; 'legacy' = no scheduler of today's kind; an error
--- @include clock errors iterate

local now = resolve_now(now_ms)
local meta = read_meta(keys)
local created = {}
for i, row in ipairs(iterations) do
  local succeeded, result = pcall(iterate, keys, meta, row, now)
  created[i] = succeeded and result or 'error:' .. error_text(result)
end
trim_events(keys, meta)
return created
