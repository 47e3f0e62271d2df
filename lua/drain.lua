--- Remove the jobs that wait to run, a slice per call; what runs, is finished or belongs to a scheduler stays.
--- Transition: wait | prioritized | delayed -> removed
--- @key wait        list ids ready to run
--- @key paused      list ids set aside by old versions
--- @key prioritized zset ids ready to run, by priority
--- @key delayed     zset ids that wait for their time
--- @key schedulers  zset scheduler id -> time of its pending iteration, which is not removed
--- @key active      list ids claimed by some worker
--- @key meta        hash settings
--- @key marker      zset wakes idle workers when a parent is released
--- @key events      stream event stream
--- @key pc          string read by the included scores
--- @derived {prefix}{id} hash and the keys below it
--- @derived {prefix}de:{id} string deduplication ids the removed jobs own
--- @arg prefix  string key prefix of the queue, ends with ':'
--- @arg place   string wait | paused | prioritized | delayed
--- @arg offset  int    jobs at the beginning that earlier calls let stay
--- @arg limit   int    jobs looked at per call
--- @return [removed, looked at]; looked at < limit: this place is done
--- @include iterations sweep

local removed, seen = sweep(keys, keys[place], place == 'wait' or place == 'paused', offset, limit, function(job_id)
  return not is_pending_iteration(keys, job_id)
end)
return { #removed, seen }
