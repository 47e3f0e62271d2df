--- Iterations of job schedulers.
--- @include clock
--- @uses schedulers

--- Whether a job is the iteration that a scheduler waits for: without it the scheduler would end.
local function is_pending_iteration(keys, job_id)
  local scheduler_id, due_ms = string.match(job_id, '^repeat:(.+):(%d+)$')
  local next_ms = scheduler_id and redis.call('ZSCORE', keys.schedulers, scheduler_id)
  return next_ms and integer(tonumber(next_ms)) == due_ms
end
