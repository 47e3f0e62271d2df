--- What holds a job where it is. Nothing here searches the wait list: a job that is nowhere else must be there.
--- @include keys meta states staged
--- @uses active delayed limiter

--- Where a job is, found without a search; 'staged' for a node of an unfinished flow, 'missing' without a hash.
local function likely_place(keys, job_id)
  for _, set in ipairs(SETS) do
    if redis.call('ZSCORE', keys[set[1]], job_id) then
      return set[2]
    end
  end
  if redis.call('LPOS', keys.active, job_id) then
    return 'active'
  elseif redis.call('EXISTS', keys.prefix .. job_id) == 0 then
    return 'missing'
  end
  return redis.call('HEXISTS', keys.prefix .. job_id, STAGED) == 1 and 'staged' or 'waiting'
end

--- Facts of one queue that hold its ready jobs back.
local function explain_queue(keys)
  local meta = read_meta(keys)
  return {
    'paused', meta.paused and '1' or '0',
    'concurrency', tostring(meta.concurrency or ''),
    'active', tostring(redis.call('LLEN', keys.active)),
    'limit_ms', tostring(math.max(0, redis.call('PTTL', keys.limiter))),
  }
end

--- Facts of one job: flat name, value, ... as text; '' where a fact does not apply.
local function explain_job(keys, job_id)
  local job_key = keys.prefix .. job_id
  local place = likely_place(keys, job_id)
  local fields = redis.call('HMGET', job_key, 'failedReason', 'defa', 'pb', 'processedOn')
  local score = place == 'delayed' and redis.call('ZSCORE', keys.delayed, job_id)
  return {
    'place', place,
    'due_ms', score and string.format('%.0f', math.floor(tonumber(score) / 4096)) or '',
    'locked', tostring(redis.call('EXISTS', job_key .. ':lock')),
    'failed_reason', fields[1] or '',
    'deferred_failure', fields[2] or '',
    'processed_by', fields[3] or '',
    'processed_on', fields[4] or '',
    'unsuccessful', tostring(redis.call('ZCARD', job_key .. ':unsuccessful')),
    'pending', tostring(redis.call('SCARD', job_key .. ':dependencies')),
  }
end
