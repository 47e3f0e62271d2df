--- Let consumed points count from now on, instead of from when they were consumed.
--- @key limiter list microseconds at which points were consumed, oldest first; at most max_points; expires unused
--- @arg entry       string what consume_points answered
--- @arg points      int points that were consumed together
--- @arg max_points  int points that any window may hold
--- @arg duration_ms int length of the window
--- @arg now_ms      int unix milliseconds; 0 = the server's TIME, to the microsecond
--- @return the new entry
--- @include clock points

local now, window = now_us(now_ms), duration_ms * 1000
local ahead = set_back(keys, now, window)
local renewed = integer(now + ahead)
-- Entries that are gone have left the window, or were moved after a step of the clock: they are made again all the same.
redis.call('LREM', keys.limiter, -points, entry)
push_points(keys, renewed, points)
keep_points(keys, max_points, ahead + window)
return renewed
