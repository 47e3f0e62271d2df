--- What a new job does whose deduplication id another job owns.
--- @include clock keys events markers delayed deduplication
--- @uses active delayed
--- @event deduplicated removed delayed

--- Whether the key is a leftover: it never expires and its owner is gone. Such a key is deleted.
local function drop_stale_owner(keys, key, owner, deduplication_id)
  if redis.call('EXISTS', keys.prefix .. owner) == 1 or redis.call('PTTL', key) ~= -1 then
    return false
  end
  redis.call('DEL', key, keys.prefix .. 'dn:' .. deduplication_id)
  return true
end

--- Keep the newest job back while the owner is active; returns whether it did.
local function keep_last(keys, key, owner, job, job_id, options)
  if not options.keepLastIfActive or not redis.call('LPOS', keys.active, owner) then
    return false
  end
  local fields = { 'name', job.name, 'data', job.data, 'opts', job.opts, 'jid', job_id }
  if job.parent_key ~= '' then
    for _, value in ipairs({ 'pk', job.parent_key, 'pd', job.parent, 'pdk', job.parent_key .. ':dependencies' }) do
      fields[#fields + 1] = value
    end
  end
  local next_key = keys.prefix .. 'dn:' .. options.id
  redis.call('DEL', next_key)
  redis.call('HSET', next_key, unpack(fields))
  redis.call('PERSIST', key)
  emit(keys, 'deduplicated', 'jobId', owner, 'deduplicationId', options.id, 'deduplicatedJobId', job_id)
  return true
end

--- Replace a delayed owner by the new job (debounce); returns whether the owner was delayed. The event names the
--- ids the other way round than in every other mode, as upstream.
local function replace_delayed_owner(keys, key, owner, job_id, options)
  if redis.call('ZREM', keys.delayed, owner) == 0 then
    return false
  end
  delete_job_keys(keys.prefix .. owner)
  emit(keys, 'removed', 'jobId', owner, 'prev', 'delayed')
  emit(keys, 'deduplicated', 'jobId', job_id, 'deduplicationId', options.id, 'deduplicatedJobId', owner)
  redis.call('DEL', keys.prefix .. 'dn:' .. options.id)
  if not options.keepLastIfActive and not options.extend and (tonumber(options.ttl) or 0) > 0 then
    redis.call('SET', key, job_id, 'KEEPTTL')
  else
    own_deduplication(key, job_id, options)
  end
  return true
end

--- Push a delayed owner back to the new job's time.
local function reschedule_owner(keys, owner, due_ms, delay_ms)
  if redis.call('ZSCORE', keys.delayed, owner) then -- its old place counts when the new score is chosen, as upstream
    redis.call('HSET', keys.prefix .. owner, 'delay', integer(delay_ms))
    delay_job(keys, owner, due_ms)
    mark_delayed(keys)
  end
end

--- Decide whether a new job is added. Returns the owner's id when it is not; otherwise nil and whether the new job
--- replaced a delayed owner.
local function deduplicate(keys, job, job_id, options, timestamp)
  local key = keys.prefix .. 'de:' .. options.id
  local owner = redis.call('GET', key)
  local is_flow_parent = job.placement == 'children'
  if not owner then
    own_deduplication(key, job_id, options)
    return nil, false
  end
  local replaces = options.replace and not is_flow_parent
  if replaces and replace_delayed_owner(keys, key, owner, job_id, options) then
    return nil, true
  end
  if drop_stale_owner(keys, key, owner, options.id) then
    own_deduplication(key, job_id, options)
    return nil, false
  end
  if keep_last(keys, key, owner, job, job_id, options) or replaces then
    return owner, false
  end
  if options.extend and (tonumber(options.ttl) or 0) > 0 then
    own_deduplication(key, owner, options)
  end
  emit(keys, 'deduplicated', 'jobId', owner, 'deduplicationId', options.id, 'deduplicatedJobId', job_id)
  if options.reschedule and not is_flow_parent then
    reschedule_owner(keys, owner, timestamp + job.delay_ms, job.delay_ms)
  end
  return owner, false
end
