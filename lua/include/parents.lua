--- What a child's end does to its parent, which may live in another queue.
--- @include clock keys events markers ready delayed
--- @event waiting delayed

--- A parent in the set `from_key` (waiting-children or delayed) becomes ready, first in its line, or begins its delay.
--- It leaves the set when it has its new place, so that it is not lost if that fails.
local function move_parent_to_wait(parent, parent_id, now, from_key)
  local values = redis.call('HMGET', parent.prefix .. parent_id, 'priority', 'delay')
  local delay_ms = tonumber(values[2] or 0) or 0
  if delay_ms > 0 then
    redis.call('ZADD', parent.delayed, integer((now + delay_ms) * JOBS_PER_MS), parent_id)
    redis.call('ZREM', from_key, parent_id)
    emit(parent, 'delayed', 'jobId', parent_id, 'delay', integer(now + delay_ms))
    mark_delayed(parent)
    return
  end
  local priority = tonumber(values[1] or 0) or 0
  if priority > 0 then
    push_prioritized(parent, parent_id, priority)
  else
    redis.call('RPUSH', parent.wait, parent_id)
  end
  redis.call('ZREM', from_key, parent_id)
  mark_ready(parent, is_blocked(parent, read_meta(parent)))
  emit(parent, 'waiting', 'jobId', parent_id, 'prev', 'waiting-children')
end

--- Release a parent that waits for nothing any more.
local function release_parent_if_ready(parent_key, now)
  if redis.call('SCARD', parent_key .. ':dependencies') > 0 or redis.call('EXISTS', parent_key) == 0 then
    return
  end
  local parent_prefix, parent_id = split_job_key(parent_key)
  local parent = derive_keys(parent_prefix)
  if redis.call('ZSCORE', parent.waiting_children, parent_id) then
    move_parent_to_wait(parent, parent_id, now, parent.waiting_children)
  end
end

--- A completed child hands its return value to its parent.
local function child_completed(child_key, parent_key, return_value, now)
  if redis.call('SREM', parent_key .. ':dependencies', child_key) == 1 then
    redis.call('HSET', parent_key .. ':processed', child_key, return_value)
    release_parent_if_ready(parent_key, now)
  end
end

--- Several children of one parent, which completed in the same call, hand over their return values together.
local function children_completed(child_keys, parent_key, return_values, now)
  local dependencies = parent_key .. ':dependencies'
  local is_pending = redis.call('SMISMEMBER', dependencies, unpack(child_keys))
  local pending, values = {}, {}
  for i, child_key in ipairs(child_keys) do
    if is_pending[i] == 1 then
      pending[#pending + 1] = child_key
      values[#values + 1] = child_key
      values[#values + 1] = return_values[i]
    end
  end
  if #pending > 0 then
    redis.call('SREM', dependencies, unpack(pending))
    redis.call('HSET', parent_key .. ':processed', unpack(values))
    release_parent_if_ready(parent_key, now)
  end
end

--- The parent must fail: with this reason when a worker next takes it.
local function fail_parent(child_key, parent_key, now)
  redis.call('ZADD', parent_key .. ':unsuccessful', integer(now), child_key)
  if redis.call('EXISTS', parent_key) == 0 then
    return
  end
  local parent_prefix, parent_id = split_job_key(parent_key)
  local parent = derive_keys(parent_prefix)
  local reason = 'child ' .. child_key .. ' failed'
  if redis.call('ZSCORE', parent.waiting_children, parent_id) then
    redis.call('HSET', parent_key, 'defa', reason)
    move_parent_to_wait(parent, parent_id, now, parent.waiting_children)
  elseif redis.call('ZSCORE', parent.delayed, parent_id) then
    redis.call('HSET', parent_key, 'defa', reason, 'delay', '0')
    move_parent_to_wait(parent, parent_id, now, parent.delayed)
  elseif not redis.call('ZSCORE', parent.failed, parent_id) then
    redis.call('HSET', parent_key, 'defa', reason)
  end
end

--- The parent goes on at once, even with children pending.
local function continue_parent(child_key, parent_key, reason, now)
  redis.call('HSET', parent_key .. ':failed', child_key, reason)
  local parent_prefix, parent_id = split_job_key(parent_key)
  local parent = derive_keys(parent_prefix)
  if redis.call('ZSCORE', parent.waiting_children, parent_id) then
    move_parent_to_wait(parent, parent_id, now, parent.waiting_children)
  end
end

--- A child failed for good; its `parent` record says what that means. Without a policy the parent keeps waiting.
local function child_failed(child_key, parent_key, parent_json, reason, now)
  local readable, policy = pcall(cjson.decode, parent_json or '{}')
  if not readable or type(policy) ~= 'table' or not (policy.fpof or policy.cpof or policy.idof or policy.rdof) then
    return
  end
  if redis.call('SREM', parent_key .. ':dependencies', child_key) == 0 then
    return
  end
  if policy.fpof then
    fail_parent(child_key, parent_key, now)
  elseif policy.cpof then
    continue_parent(child_key, parent_key, reason, now)
  else
    release_parent_if_ready(parent_key, now)
    if policy.idof then
      redis.call('HSET', parent_key .. ':failed', child_key, reason)
    end
  end
end
