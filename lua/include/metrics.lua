--- Per-minute counts of finished jobs.

local MINUTE_MS = 60000

--- Minutes in which nothing finished, newest at the head, in calls of bounded size.
local function push_zeros(list_key, count)
  while count > 0 do
    local zeros = {}
    for i = 1, math.min(count, 1000) do
      zeros[i] = 0
    end
    redis.call('LPUSH', list_key, unpack(zeros))
    count = count - #zeros
  end
end

--- Count `finished` jobs into one of the two series, keeping at most `max_points` minutes. The unfinished minute is
--- never in the list; minutes without a finish become zeros when the next job finishes.
local function count_finished(hash_key, list_key, finished, now, max_points)
  local before = redis.call('HINCRBY', hash_key, 'count', finished) - finished
  local previous = redis.call('HMGET', hash_key, 'prevTS', 'prevCount')
  if not previous[1] then
    redis.call('HSET', hash_key, 'prevTS', string.format('%.0f', now), 'prevCount', 0)
    return
  end
  local elapsed = math.floor(now / MINUTE_MS) - math.floor(tonumber(previous[1]) / MINUTE_MS)
  local minutes = math.min(elapsed, max_points)
  if minutes <= 0 then
    return
  end
  redis.call('LPUSH', list_key, string.format('%.0f', before - (tonumber(previous[2] or 0) or 0)))
  push_zeros(list_key, minutes - 1)
  redis.call('LTRIM', list_key, 0, max_points - 1)
  redis.call('HSET', hash_key, 'prevCount', string.format('%.0f', before), 'prevTS', string.format('%.0f', now))
end
