--- Delete a paused queue with all its jobs, a slice per call.
--- Transition: any state but waiting-children -> removed
--- @key meta             hash   settings
--- @key active           list   ids claimed by some worker
--- @key delayed          zset   ids that wait for their time
--- @key schedulers       zset   scheduler ids
--- @key completed        zset   finished jobs
--- @key wait             list   ids ready to run
--- @key paused           list   ids set aside by old versions
--- @key prioritized      zset   ids ready to run, by priority
--- @key failed           zset   finished jobs
--- @key events           stream event stream
--- @key stalled          set    ids suspected to be stalled
--- @key stalled_check    string throttle of the stalled check
--- @key id               string job id counter
--- @key pc               string priority counter
--- @key marker           zset   wakes idle workers
--- @key metrics_completed      hash counts of finished jobs
--- @key metrics_completed_data list counts per minute
--- @key metrics_failed         hash counts of finished jobs
--- @key metrics_failed_data    list counts per minute
--- @derived {prefix}{id} hash and the keys below it, the lock of an active job included
--- @derived {prefix}de:{id} string deduplication ids the removed jobs own
--- @derived {prefix}repeat:{id} hash scheduler records
--- @derived {prefix}delay string obsolete
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg force  int    1: also delete jobs that run
--- @arg limit  int    removals per call
--- @return [code, removed]; 0 done, 1 call again, -1 the queue is not paused, -2 jobs are active
--- @include sweep

local PLACES = { 'active', 'delayed', 'schedulers', 'completed', 'wait', 'paused', 'prioritized', 'failed' }
local IS_LIST = { active = true, wait = true, paused = true }

local budget = limit

local function unlock(job_ids)
  for _, job_id in ipairs(job_ids) do
    redis.call('DEL', prefix .. job_id .. ':lock')
  end
end

local function remove_schedulers()
  local ids = redis.call('ZRANGE', keys.schedulers, 0, budget - 1)
  for _, scheduler_id in ipairs(ids) do
    redis.call('DEL', prefix .. 'repeat:' .. scheduler_id)
  end
  take_out(keys.schedulers, false, ids)
  return ids
end

if redis.call('HEXISTS', keys.meta, 'paused') == 0 then
  return { -1, 0 }
elseif force == 0 and redis.call('LLEN', keys.active) > 0 then
  return { -2, 0 }
end

for _, place in ipairs(PLACES) do
  if budget > 0 then
    local removed = place == 'schedulers' and remove_schedulers()
      or sweep(keys, keys[place], IS_LIST[place], 0, budget)
    if place == 'active' then
      unlock(removed)
    end
    budget = budget - #removed
  end
end
if budget == 0 then
  return { 1, limit }
end
redis.call('UNLINK', keys.events, keys.stalled, keys.stalled_check, keys.id, keys.pc, keys.marker, keys.meta,
  keys.metrics_completed, keys.metrics_completed_data, keys.metrics_failed, keys.metrics_failed_data, prefix .. 'delay',
  prefix .. 'pyq:retention')
return { 0, limit - budget }
