--- Finished jobs run again: what is erased, and what their parents see.
--- @include keys

--- Fields of the last run, by the state it ended in.
local RUN_FIELDS = { completed = 'returnvalue', failed = 'failedReason' }

--- A child that runs again is pending again for its parent; the parent's state stays as it is.
local function return_to_parent(job_key, parent_key, state)
  if not parent_key or parent_key == '' or redis.call('EXISTS', parent_key) == 0 then
    return
  end
  local settled
  if state == 'completed' then
    settled = redis.call('HDEL', parent_key .. ':processed', job_key)
  else
    settled = redis.call('ZREM', parent_key .. ':unsuccessful', job_key)
    if settled == 0 then
      settled = redis.call('HDEL', parent_key .. ':failed', job_key)
    end
  end
  if settled == 1 then
    redis.call('SADD', parent_key .. ':dependencies', job_key)
  end
end

--- Forget how the last run ended; counters, options and the stack trace stay.
local function erase_run(job_key, state)
  redis.call('HDEL', job_key, 'finishedOn', 'processedOn', RUN_FIELDS[state])
end
