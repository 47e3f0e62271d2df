--- Put jobs where workers take them from: the wait list and the prioritized set.
--- @include clock
--- @uses wait prioritized pc

--- Jobs that can be put in front of a priority's first place.
local FRONT_PLACES = 100000

--- Score of a priority's first place.
local function priority_base(priority)
  return priority * 4294967296
end

--- Score behind all jobs of the same priority; `count` is the value of `pc` that the job has drawn.
local function priority_score(priority, count)
  return integer(priority_base(priority) + count % 4294967296)
end

--- Behind all jobs of the same priority.
local function push_prioritized(keys, job_id, priority)
  local count = redis.call('INCR', keys.pc)
  redis.call('ZADD', keys.prioritized, priority_score(priority, count), job_id)
end

--- To the back of the line (or the front, for lifo); a priority has its own line, where lifo does not apply.
local function push_back(keys, job_id, priority, lifo)
  if priority > 0 then
    push_prioritized(keys, job_id, priority)
  else
    redis.call(lifo and 'RPUSH' or 'LPUSH', keys.wait, job_id)
  end
end

--- Score in front of all jobs of the same priority, also of those that went to the front before: so several that go back
--- keep their order. Numbers below the first place belong to the priority before, which never draws so many.
local function foremost_score(keys, priority)
  local base = priority_base(priority)
  local first = redis.call('ZRANGEBYSCORE', keys.prioritized, integer(base - FRONT_PLACES), integer(base), 'WITHSCORES',
    'LIMIT', '0', '1')
  return first[2] and math.max(base - FRONT_PLACES, first[2] - 1) or base
end

--- To the front of its line; `pc` is left alone. score: its place among the prioritized, the first one if not given.
local function push_front(keys, job_id, priority, score)
  if priority > 0 then
    redis.call('ZADD', keys.prioritized, integer(score or priority_base(priority)), job_id)
  else
    redis.call('RPUSH', keys.wait, job_id)
  end
end

--- Jobs that become ready together: collected one by one, pushed by `push_line` in one command per place.
local function new_line()
  return { back = {}, front = {}, prioritized = {} }
end

--- What `push_back` does, at the end of the call.
local function join_line(line, job_id, priority, lifo)
  if priority > 0 then
    line.prioritized[#line.prioritized + 1] = { id = job_id, priority = priority }
  else
    local ids = lifo and line.front or line.back
    ids[#ids + 1] = job_id
  end
end

--- Push the collected jobs; returns whether there were any.
local function push_line(keys, line)
  if #line.back > 0 then
    redis.call('LPUSH', keys.wait, unpack(line.back))
  end
  if #line.front > 0 then
    redis.call('RPUSH', keys.wait, unpack(line.front))
  end
  local entries = #line.prioritized
  if entries > 0 then
    local drawn = redis.call('INCRBY', keys.pc, entries) - entries
    local members = {}
    for i, entry in ipairs(line.prioritized) do
      members[i * 2 - 1] = priority_score(entry.priority, drawn + i)
      members[i * 2] = entry.id
    end
    redis.call('ZADD', keys.prioritized, unpack(members))
  end
  return #line.back + #line.front + entries > 0
end
