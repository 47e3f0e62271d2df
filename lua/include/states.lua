--- Where a job is: finding it, and taking it out of there.
--- @uses completed failed delayed prioritized active wait paused waiting_children

--- Sorted sets of a queue, in the order in which a state is looked up.
local SETS = {
  { 'completed', 'completed' },
  { 'failed', 'failed' },
  { 'delayed', 'delayed' },
  { 'prioritized', 'prioritized' },
  { 'waiting_children', 'waiting-children' },
}

--- Lists, the short one first: finding an id in a list costs its length.
local LISTS = { 'active', 'wait', 'paused' }

--- Name of the sorted set or list that holds a job, else 'unknown'. A job without a hash that is in no set and not
--- active counts as unknown: the wait list is only searched for jobs that can be there.
local function find_place(keys, job_id)
  for _, set in ipairs(SETS) do
    if redis.call('ZSCORE', keys[set[1]], job_id) then
      return set[2]
    end
  end
  for i, list in ipairs(LISTS) do
    if i == 2 and redis.call('EXISTS', keys.prefix .. job_id) == 0 then
      break
    end
    if redis.call('LPOS', keys[list], job_id) then
      return list
    end
  end
  return 'unknown'
end

--- Take a job out of the first place that holds it; returns that place's name, else 'unknown'.
local function leave_place(keys, job_id)
  for _, set in ipairs(SETS) do
    if redis.call('ZREM', keys[set[1]], job_id) == 1 then
      return set[2]
    end
  end
  for _, list in ipairs(LISTS) do
    if redis.call('LREM', keys[list], -1, job_id) == 1 then
      return list
    end
  end
  return 'unknown'
end
