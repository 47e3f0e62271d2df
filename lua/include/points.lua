--- The log of a keyed limit: the microsecond of every consumed point, oldest first.
--- @include clock
--- @uses limiter

-- Lua's stack holds 8000 values; a call with fewer arguments costs no more per point.
local ENTRIES_PER_COMMAND = 1000

--- Microseconds since the epoch: the caller's clock, or the server's when the caller has none (0).
local function now_us(now_ms)
  if now_ms > 0 then
    return now_ms * 1000
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

--- Append as many equal entries.
local function push_points(keys, entry, count)
  while count > 0 do
    local entries = {}
    for i = 1, math.min(count, ENTRIES_PER_COMMAND) do
      entries[i] = entry
    end
    redis.call('RPUSH', keys.limiter, unpack(entries))
    count = count - #entries
  end
end

--- Bound the log: no more entries than the limit has points, and none when the newest has left the window.
local function keep_points(keys, max_points, microseconds)
  redis.call('LTRIM', keys.limiter, -max_points, -1)
  redis.call('PEXPIRE', keys.limiter, math.ceil(microseconds / 1000) + 1)
end

--- Microseconds by which the newest entry is ahead of now: the server's clock was set back, or another server has taken
--- over. New entries are made there, so that the order holds and nobody waits too little. After a step of more than a
--- window, what is known of the old time counts as consumed just now.
local function set_back(keys, now, window)
  local ahead = math.max(0, (tonumber(redis.call('LINDEX', keys.limiter, -1) or 0) or 0) - now)
  if ahead <= window then
    return ahead
  end
  local known = redis.call('LLEN', keys.limiter)
  redis.call('DEL', keys.limiter)
  push_points(keys, integer(now), known)
  keep_points(keys, known, window)
  return 0
end
