--- Remove jobs, and let go of their parents.
--- @include keys events markers ready
--- @event waiting

--- Put a parent that lost its last pending child first in line. Its delay and priority do not apply, as upstream.
local function release_orphaned_parent(parent, parent_id, silent)
  redis.call('RPUSH', parent.wait, parent_id)
  mark_ready(parent, is_blocked(parent, read_meta(parent)))
  if not silent then
    emit(parent, 'waiting', 'jobId', parent_id, 'prev', 'waiting-children')
  end
end

--- Take a job out of its parent's dependencies. `hard` (clean, drain, obliterate) also deletes a parent of the same
--- queue that is left without pending children, and is silent. Returns whether the job was a pending child.
local function detach_from_parent(job_key, hard, parent_key)
  local detached = false
  while parent_key and parent_key ~= '' do
    if redis.call('SREM', parent_key .. ':dependencies', job_key) == 0 then
      break
    end
    detached = true
    local parent_prefix, parent_id = split_job_key(parent_key)
    local parent = derive_keys(parent_prefix)
    if redis.call('SCARD', parent_key .. ':dependencies') > 0
      or redis.call('ZREM', parent.waiting_children, parent_id) == 0 then
      break
    end
    local same_queue = split_job_key(job_key) == parent_prefix
    if not (hard and same_queue) then
      release_orphaned_parent(parent, parent_id, hard)
      break
    end
    local grandparent_key = redis.call('HGET', parent_key, 'parentKey')
    delete_job_keys(parent_key)
    job_key, parent_key = parent_key, grandparent_key
  end
  return detached
end

--- Give up the deduplication id of a removed job, if it owns one.
local function free_deduplication(keys, job_id, deduplication_id)
  if deduplication_id then
    local key = keys.prefix .. 'de:' .. deduplication_id
    if redis.call('GET', key) == job_id then
      redis.call('DEL', key, keys.prefix .. 'dn:' .. deduplication_id)
    end
  end
end

--- Delete one job; its id must be taken from its state by the caller. Returns how many keys existed.
local function remove_job(keys, job_id, hard, frees_deduplication)
  local job_key = keys.prefix .. job_id
  local values = redis.call('HMGET', job_key, 'parentKey', 'deid')
  if values[1] then
    detach_from_parent(job_key, hard, values[1])
  end
  if frees_deduplication and values[2] then
    free_deduplication(keys, job_id, values[2])
  end
  return delete_job_keys(job_key)
end
