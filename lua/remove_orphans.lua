--- Delete what is left of jobs that are in no state: their list or set was lost, or an old version forgot them.
--- Transition: (in no state) -> (removed).
--- @key wait list
--- @key paused list
--- @key active list
--- @key prioritized zset
--- @key delayed zset
--- @key waiting_children zset
--- @key completed zset
--- @key failed zset
--- @derived {prefix}{id} hash and everything below it
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg now_ms int unix milliseconds; 0 = the server's TIME
--- @rows candidates job_id
--- Jobs of a large flow that is being added stay: they get their places when all are stored.
--- @return ids whose keys were deleted
--- @include clock keys staged

local function is_placed(job_id)
  for _, set in ipairs({ 'completed', 'failed', 'delayed', 'prioritized', 'waiting_children' }) do
    if redis.call('ZSCORE', keys[set], job_id) then
      return true
    end
  end
  for _, list in ipairs({ 'active', 'wait', 'paused' }) do
    if redis.call('LPOS', keys[list], job_id) then
      return true
    end
  end
  return false
end

local now, removed = resolve_now(now_ms), {}
for _, candidate in ipairs(candidates) do
  local job_key = prefix .. candidate.job_id
  if not is_placed(candidate.job_id) and not is_being_added(job_key, now)
    and delete_job_keys(job_key) + redis.call('DEL', job_key .. ':lock') > 0 then
    removed[#removed + 1] = candidate.job_id
  end
end
return removed
