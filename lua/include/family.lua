--- Remove a job, alone or with its children: those it waits for and those it had.
--- @include keys events remove states
--- @event removed waiting

--- Jobs that one call removes. A larger family is removed in steps, which are not one atomic change.
local FAMILY_PER_CALL = 50

--- Whether the job or, with its children, any job it still waits for is locked by a worker.
local function is_family_locked(job_key, with_children, visited)
  visited[job_key] = true
  if redis.call('EXISTS', job_key .. ':lock') == 1 then
    return true
  end
  local children = with_children and redis.call('SMEMBERS', job_key .. ':dependencies') or {}
  for _, child_key in ipairs(children) do
    if not visited[child_key] and is_family_locked(child_key, true, visited) then
      return true
    end
  end
  return false
end

--- Keys of all children, in the order in which they are removed: completed, ignored, unsuccessful, pending.
local function child_keys(job_key)
  local children = redis.call('HKEYS', job_key .. ':processed')
  local function append(others)
    for _, child_key in ipairs(others) do
      children[#children + 1] = child_key
    end
  end
  append(redis.call('HKEYS', job_key .. ':failed'))
  append(redis.call('ZRANGE', job_key .. ':unsuccessful', 0, -1))
  append(redis.call('SMEMBERS', job_key .. ':dependencies'))
  return children
end

--- Whether a family has more members than one call removes; no set is read that is larger than that.
local function is_large_family(job_key)
  local left, seen, members = { job_key }, { [job_key] = true }, 1
  while #left > 0 do
    local parent_key = table.remove(left)
    members = members + redis.call('HLEN', parent_key .. ':processed') + redis.call('HLEN', parent_key .. ':failed')
      + redis.call('ZCARD', parent_key .. ':unsuccessful') + redis.call('SCARD', parent_key .. ':dependencies')
    if members > FAMILY_PER_CALL then
      return true
    end
    for _, child_key in ipairs(child_keys(parent_key)) do
      if not seen[child_key] then
        seen[child_key] = true
        left[#left + 1] = child_key
      end
    end
  end
  return false
end

local function no_children()
  return {}
end

--- Keys of pending children, but not of those that a worker has locked or that failed.
local function unprocessed_keys(job_key, child_keys_read)
  local children = {}
  for _, child_key in ipairs(child_keys_read or redis.call('SMEMBERS', job_key .. ':dependencies')) do
    local child_prefix, child_id = split_job_key(child_key)
    if redis.call('EXISTS', child_key .. ':lock') == 0
      and not redis.call('ZSCORE', derive_keys(child_prefix).failed, child_id) then
      children[#children + 1] = child_key
    end
  end
  return children
end

--- How a removal walks: `children_of` gives the keys of the children that go with a job. It collects visited job keys
--- (a damaged family may be a circle), queues that got events (prefix -> keys), and how many jobs were removed.
local function new_walk(children_of)
  return { children_of = children_of, visited = {}, queues = {}, removed = 0 }
end

--- Remove a job from its parent, its state and Redis, its children first. `parent_key` is the parent that is removed
--- with it, nil for the first.
local function remove_family(keys, job_id, walk, parent_key)
  local job_key = keys.prefix .. job_id
  walk.visited[job_key] = true
  local values = redis.call('HMGET', job_key, 'parentKey', 'deid')
  detach_from_parent(job_key, false, parent_key or values[1])
  for _, child_key in ipairs(walk.children_of(job_key)) do
    if not walk.visited[child_key] then
      local child_prefix, child_id = split_job_key(child_key)
      remove_family(derive_keys(child_prefix), child_id, walk, job_key)
    end
  end
  local place = leave_place(keys, job_id)
  free_deduplication(keys, job_id, values[2])
  if delete_job_keys(job_key) > 0 then
    emit(keys, 'removed', 'jobId', job_id, 'prev', place)
    walk.queues[keys.prefix] = keys
    walk.removed = walk.removed + 1
  end
end

--- Cap the streams of the queues that got events.
local function end_walk(walk)
  for _, queue in pairs(walk.queues) do
    trim_events(queue, read_meta(queue))
  end
end
