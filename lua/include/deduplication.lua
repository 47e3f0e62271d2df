--- Deduplication ids: who owns one, and what becomes of it when the owner finishes.
--- @include clock job
--- @uses id
--- @derived {prefix}de:{id} string owner of a deduplication id
--- @derived {prefix}dn:{id} hash job kept back until the owner finishes
--- @event added waiting delayed

--- Make a job the owner. A keep-last id never expires: it follows the chain of jobs.
local function own_deduplication(key, job_id, options)
  local ttl = tonumber(options.ttl) or 0
  if ttl > 0 and not options.keepLastIfActive then
    redis.call('SET', key, job_id, 'PX', integer(ttl))
  else
    redis.call('SET', key, job_id)
  end
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
