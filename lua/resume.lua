--- Resume a paused queue, and bring jobs that old versions set aside back into the wait list, a slice per call.
--- @key meta        hash   settings; the field `paused` is removed
--- @key wait        list   ids ready to run
--- @key paused      list   ids that BullMQ before version 6 moved away when the queue was paused
--- @key prioritized zset   ids ready to run, by priority
--- @key delayed     zset   ids that wait for their time
--- @key marker      zset   wakes idle workers
--- @key events      stream event stream
--- @key active      list   read by the included settings
--- @arg is_first int   1: resume, and announce it; 0: only move the next slice (the queue may be paused again)
--- @arg limit    int   ids moved per call
--- @return ids that are still set aside: call again with is_first = 0 until 0
--- @event resumed
--- @include events markers

if is_first == 1 then
  redis.call('HDEL', keys.meta, 'paused')
end

-- The newest are at the head of both lists. Moved in this order the oldest end up at the tail, to be served first.
local aside = redis.call('LLEN', keys.paused)
if aside > 0 and redis.call('EXISTS', keys.wait) == 0 then
  redis.call('RENAME', keys.paused, keys.wait)
  aside = 0
elseif aside > 0 then
  local moved = redis.call('LRANGE', keys.paused, 0, limit - 1)
  redis.call('LTRIM', keys.paused, #moved, -1)
  redis.call('RPUSH', keys.wait, unpack(moved))
  aside = aside - #moved
end

if redis.call('HEXISTS', keys.meta, 'paused') == 0 then
  if redis.call('LLEN', keys.wait) + redis.call('ZCARD', keys.prioritized) > 0 then
    mark_ready(keys, false)
  else
    mark_delayed(keys)
  end
end
if is_first == 1 then
  emit(keys, 'resumed')
end
return aside
