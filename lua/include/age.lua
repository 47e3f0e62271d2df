--- How old a job that is not finished is.

--- Time fields that decide, per place: the first that is set.
local AGE_FIELDS = {
  delayed = { 'processedOn', 'timestamp' },
  prioritized = { 'timestamp' },
  wait = { 'finishedOn', 'processedOn', 'timestamp' },
  paused = { 'finishedOn', 'processedOn', 'timestamp' },
  active = { 'finishedOn', 'processedOn', 'timestamp' },
}

--- Whether a job's time is not after `newest_ms`; a job without a time is old.
local function is_old(job_key, place, newest_ms)
  local times = redis.call('HMGET', job_key, unpack(AGE_FIELDS[place]))
  for i = 1, #AGE_FIELDS[place] do
    if times[i] then
      return (tonumber(times[i]) or 0) <= newest_ms
    end
  end
  return true
end
