--- Put jobs where workers take them from: the wait list and the prioritized set.
--- @uses wait prioritized pc

--- Score of a priority's first place.
local function priority_base(priority)
  return priority * 4294967296
end

--- Behind all jobs of the same priority.
local function push_prioritized(keys, job_id, priority)
  local count = redis.call('INCR', keys.pc)
  redis.call('ZADD', keys.prioritized, string.format('%.0f', priority_base(priority) + count % 4294967296), job_id)
end

--- To the back of the line (or the front, for lifo); a priority has its own line, where lifo does not apply.
local function push_back(keys, job_id, priority, lifo)
  if priority > 0 then
    push_prioritized(keys, job_id, priority)
  else
    redis.call(lifo and 'RPUSH' or 'LPUSH', keys.wait, job_id)
  end
end

--- To the front of its line; `pc` is left alone.
local function push_front(keys, job_id, priority)
  if priority > 0 then
    redis.call('ZADD', keys.prioritized, string.format('%.0f', priority_base(priority)), job_id)
  else
    redis.call('RPUSH', keys.wait, job_id)
  end
end
