--- Consume points of a limit that holds in every sliding window, or tell how long to wait for them.
--- One list entry per point, so the entry that must have left the window is found by its position.
--- @key limiter list microseconds at which points were consumed, oldest first; at most max_points; expires unused
--- @arg points      int points to consume, at most max_points
--- @arg max_points  int points that any window may hold
--- @arg duration_ms int length of the window
--- @arg now_ms      int unix milliseconds; 0 = the server's TIME, to the microsecond
--- @return [wait_ms, entry]; wait_ms > 0: nothing was consumed; else the entry that was made for each point
--- @include clock points

local now, window = now_us(now_ms), duration_ms * 1000
local ahead = set_back(keys, now, window)
local leaving = tonumber(redis.call('LINDEX', keys.limiter, points - max_points - 1) or 0) or 0
local wait = leaving + window - now
if wait > 0 then
  return { math.ceil(wait / 1000), '' }
end
local entry = integer(now + ahead)
push_points(keys, entry, points)
keep_points(keys, max_points, ahead + window)
return { 0, entry }
