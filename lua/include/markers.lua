--- The marker that wakes idle workers.
--- @uses marker delayed

--- Work is ready: wake one worker, unless the queue holds its jobs back.
local function mark_ready(keys, blocked)
  if not blocked then
    redis.call('ZADD', keys.marker, '0', '0')
  end
end

--- Milliseconds at which the first delayed job is due (a fraction counts jobs of one millisecond), or nil.
local function next_delayed(keys)
  local first = redis.call('ZRANGE', keys.delayed, '0', '0', 'WITHSCORES')
  if first[2] then
    return tonumber(first[2]) / 4096
  end
  return nil
end

--- Tell one worker when the first delayed job is due; also while the queue is paused.
local function mark_delayed(keys)
  local due = next_delayed(keys)
  if due then
    redis.call('ZADD', keys.marker, string.format('%.17g', due), '1')
  end
end
