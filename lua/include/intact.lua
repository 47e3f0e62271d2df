--- Keys of the queue that something else has overwritten.
--- @uses wait active prioritized delayed events

--- Fail before anything is written or taken if a key holds the wrong type, for then no job is lost. It happens: other
--- clients accept `wait` as the id of a job.
local function check_intact(keys)
  redis.call('LLEN', keys.wait)
  redis.call('LLEN', keys.active)
  redis.call('ZCARD', keys.prioritized)
  redis.call('ZCARD', keys.delayed)
  redis.call('XLEN', keys.events)
end
