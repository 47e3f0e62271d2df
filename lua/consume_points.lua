--- Consume points of a limit that holds in every sliding window, or tell how long to wait for them.
--- One list entry per point, so the entry that must have left the window is found by its position.
--- @key limiter list microseconds at which points were consumed, oldest first; at most max_points; expires unused
--- @arg points      int points to consume, at most max_points
--- @arg max_points  int points that any window may hold
--- @arg duration_ms int length of the window
--- @arg now_ms      int unix milliseconds; 0 = the server's TIME, to the microsecond
--- @return milliseconds to wait, and nothing was consumed; 0: consumed
--- @include clock

-- Lua's stack holds 8000 values; a call with fewer arguments costs no more per point.
local ENTRIES_PER_COMMAND = 1000

local function push(text, count)
  while count > 0 do
    local entries = {}
    for i = 1, math.min(count, ENTRIES_PER_COMMAND) do
      entries[i] = text
    end
    redis.call('RPUSH', keys.limiter, unpack(entries))
    count = count - #entries
  end
end

local function expire_after(microseconds)
  redis.call('PEXPIRE', keys.limiter, math.ceil(microseconds / 1000) + 1)
end

local function now_us()
  if now_ms > 0 then
    return now_ms * 1000
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local now, window = now_us(), duration_ms * 1000
-- The server's clock was set back, or another server has taken over: count from the newest entry, that is, wait longer.
-- After a step of more than a window, what is known of the old time counts as consumed just now.
local ahead = math.max(0, (tonumber(redis.call('LINDEX', keys.limiter, -1) or 0) or 0) - now)
if ahead > window then
  local known = redis.call('LLEN', keys.limiter)
  redis.call('DEL', keys.limiter)
  push(integer(now), known)
  expire_after(window)
  ahead = 0
end

local leaving = tonumber(redis.call('LINDEX', keys.limiter, points - max_points - 1) or 0) or 0
local wait = leaving + window - now
if wait > 0 then
  return math.ceil(wait / 1000)
end
push(integer(now + ahead), points)
redis.call('LTRIM', keys.limiter, -max_points, -1)
expire_after(ahead + window)
return 0
