--- Take many jobs out of the active list: each by itself, or all by writing the list once.
--- @include clock
--- @uses active

--- From how many jobs on, and up to how many entries for each, writing the list once costs less than an LREM per job.
local REWRITE_FROM, ENTRIES_PER_JOB = 4, 4

--- The active list for a call that takes `leaving` jobs out of it; nil where each is to be taken out by itself: a long
--- list, and a queue whose global concurrency looks at the list's length in between.
local function read_active(keys, meta, leaving)
  local limit = leaving * ENTRIES_PER_JOB
  if leaving < REWRITE_FROM or meta.concurrency then
    return nil
  end
  local ids = redis.pcall('LRANGE', keys.active, '0', integer(limit))
  if ids.err or #ids > limit then
    return nil
  end
  return { ids = ids, oldest = #ids, position = nil }
end

--- Where a job is in the list that was read. Most jobs leave in the order in which they came, from the end; once one
--- does not, their positions are looked up.
local function find_in_active(list, job_id)
  local ids = list.ids
  if not list.position then
    if ids[list.oldest] == job_id then
      list.oldest = list.oldest - 1
      return list.oldest + 1
    end
    list.position = {}
    for i = 1, list.oldest do
      list.position[ids[i]] = i
    end
  end
  return list.position[job_id]
end

--- Take one job out; returns whether it was there. The list that was read is written by `write_active`.
local function take_from_active(keys, list, job_id)
  if not list then
    return redis.call('LREM', keys.active, '-1', job_id) > 0
  end
  local position = find_in_active(list, job_id)
  if position then
    list.ids[position] = false
    if list.position then
      list.position[job_id] = nil
    end
  end
  return position ~= nil
end

--- Write what is left of the list that was read, if any.
local function write_active(keys, list)
  if not list or (not list.position and list.oldest == #list.ids) then
    return
  elseif not list.position and list.oldest > 0 then
    redis.call('LTRIM', keys.active, '0', integer(list.oldest - 1)) -- all that left were the oldest
    return
  end
  local left = {}
  for _, job_id in ipairs(list.ids) do
    if job_id then
      left[#left + 1] = job_id
    end
  end
  if #left < #list.ids then
    redis.call('DEL', keys.active)
    if #left > 0 then
      redis.call('RPUSH', keys.active, unpack(left))
    end
  end
end
