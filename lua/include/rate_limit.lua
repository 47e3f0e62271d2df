--- The rate limit of a queue: a counter that expires at the end of its window.
--- @include clock
--- @uses limiter

--- Milliseconds for which the rate limit forbids to claim; 0 when it does not. Also the number of jobs it still
--- allows (nil: no limit) and the window.
local function rate_limit(keys, meta, worker)
  local max = meta.max or (worker.limiter_max > 0 and worker.limiter_max or nil)
  local duration = worker.limiter_duration_ms > 0 and worker.limiter_duration_ms or meta.duration
  if not max then
    return 0, nil, nil
  end
  local used = tonumber(redis.call('GET', keys.limiter) or 0) or 0
  if used >= max then
    local ttl = redis.call('PTTL', keys.limiter)
    if ttl > 0 then
      return ttl, 0, duration
    end
    redis.call('DEL', keys.limiter)
    used = 0
  end
  return 0, max - used, duration
end

--- Spend the rate limit: jobs that will only be failed (`defa`) are free.
local function spend_limit(keys, chosen, duration)
  local spent = 0
  for _, candidate in ipairs(chosen) do
    if not candidate.shape.is_doomed then
      spent = spent + 1
    end
  end
  if spent > 0 and redis.call('INCRBY', keys.limiter, spent) == spent and duration then
    redis.call('PEXPIRE', keys.limiter, integer(math.floor(math.abs(duration))))
  end
end

--- Milliseconds left of the rate limit, asked by those that gave a job back.
local function limit_left(keys)
  return math.max(0, redis.call('PTTL', keys.limiter))
end
