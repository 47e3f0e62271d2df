--- Deduplication ids: who owns one, and what a second job with the same id does.
--- @include clock keys events markers delayed job
--- @uses active delayed id
--- @derived {prefix}de:{id} string owner of a deduplication id
--- @derived {prefix}dn:{id} hash job kept back until the owner finishes
--- @event deduplicated removed added waiting delayed

--- Make a job the owner. A keep-last id never expires: it follows the chain of jobs.
local function own_deduplication(key, job_id, options)
  local ttl = tonumber(options.ttl) or 0
  if ttl > 0 and not options.keepLastIfActive then
    redis.call('SET', key, job_id, 'PX', integer(ttl))
  else
    redis.call('SET', key, job_id)
  end
end

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
  if redis.call('ZREM', keys.delayed, owner) == 1 then
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
  if options.extend then
    own_deduplication(key, owner, options)
  end
  emit(keys, 'deduplicated', 'jobId', owner, 'deduplicationId', options.id, 'deduplicatedJobId', job_id)
  if options.reschedule and not is_flow_parent then
    reschedule_owner(keys, owner, timestamp + job.delay_ms, job.delay_ms)
  end
  return owner, false
end

--- The job kept back for a finished owner takes its place in the queue and owns the id from now on.
local function enqueue_kept_job(keys, deduplication_id, now, blocked)
  local next_key = keys.prefix .. 'dn:' .. deduplication_id
  local kept = redis.call('HMGET', next_key, 'name', 'data', 'opts', 'jid', 'pk', 'pd', 'pdk', 'rjk')
  if not kept[1] then
    return
  end
  local counter = redis.call('INCR', keys.id)
  local job_id = kept[4] or integer(counter)
  local readable, options = pcall(cjson.decode, kept[3] or '{}')
  options = readable and type(options) == 'table' and options or {}
  own_deduplication(keys.prefix .. 'de:' .. deduplication_id, job_id, options.de or {})
  enqueue_job(keys, job_id, {
    name = kept[1], data = kept[2], opts = kept[3], delay_ms = tonumber(options.delay) or 0,
    priority = tonumber(options.priority) or 0, lifo = options.lifo, parent_key = kept[5], parent = kept[6],
    scheduler_id = kept[8], deduplication_id = deduplication_id,
  }, now, blocked)
  if kept[7] then
    redis.call('SADD', kept[7], keys.prefix .. job_id)
  end
  redis.call('DEL', next_key)
end

--- A job that owns a deduplication id has finished: an id without expiry is free again, one with a TTL lives on.
local function finish_deduplication(keys, job_id, deduplication_id, now, blocked)
  local key = keys.prefix .. 'de:' .. deduplication_id
  local ttl = redis.call('PTTL', key)
  if ttl == 0 or (ttl == -1 and redis.call('GET', key) == job_id) then
    redis.call('DEL', key)
  end
  enqueue_kept_job(keys, deduplication_id, now, blocked)
end
