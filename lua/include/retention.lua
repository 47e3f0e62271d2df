--- Remove old finished jobs: by age and by count, in bounded slices.
--- @include clock remove

--- Removals per call, so that a large backlog never blocks Redis; the rest follows at the next finish.
local REMOVALS_PER_CALL = 32

--- Delete jobs and their entries in a set of finished jobs; returns how many. One that cannot be removed (its key was
--- overwritten by something else) only loses its entry.
local function remove_finished(keys, set_key, job_ids)
  for _, job_id in ipairs(job_ids) do
    pcall(remove_job, keys, job_id, false, false)
  end
  if #job_ids > 0 then
    redis.call('ZREM', set_key, unpack(job_ids))
  end
  return #job_ids
end

--- Apply one policy to `set_key` (the completed or failed set) in a call that has removed `before` jobs; returns how
--- many more there were. keep: count (-1 all), age_s (-1 none), limit.
local function retain(keys, set_key, keep, now, before)
  local budget, removed = REMOVALS_PER_CALL - before, 0
  if keep.age_s >= 0 then
    local oldest_kept = integer(now - keep.age_s * 1000)
    local limit = math.min(keep.limit, budget)
    removed = remove_finished(keys, set_key,
      redis.call('ZREVRANGEBYSCORE', set_key, oldest_kept, '0', 'LIMIT', '0', integer(limit)))
  end
  if keep.count > 0 then
    local surplus = math.min(redis.call('ZCARD', set_key) - keep.count, budget - removed)
    if surplus > 0 then
      removed = removed + remove_finished(keys, set_key, redis.call('ZRANGE', set_key, '0', integer(surplus - 1)))
    end
  end
  return removed
end
