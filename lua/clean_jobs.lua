--- Remove old jobs of one state, a slice per call.
--- Transition: completed | failed | delayed | prioritized | wait | active (without lock) -> removed
--- @key completed   zset   finished jobs, by time
--- @key failed      zset   finished jobs, by time
--- @key delayed     zset   ids that wait for their time
--- @key prioritized zset   ids ready to run, by priority
--- @key wait        list   ids ready to run
--- @key paused      list   ids set aside by old versions
--- @key active      list   ids claimed by some worker
--- @key schedulers  zset   scheduler id -> time of its pending iteration, which is not removed
--- @key events      stream event stream
--- @key meta        hash   settings
--- @key marker      zset   wakes idle workers when a parent is released
--- @key pc          string read by the included scores
--- @derived {prefix}{id} hash and the keys below it
--- @derived {prefix}{id}:lock string an active job with a lock stays
--- @derived {prefix}de:{id} string deduplication ids the removed jobs own
--- @arg prefix    string key prefix of the queue, ends with ':'
--- @arg place     string completed | failed | delayed | prioritized | wait | paused | active
--- @arg now_ms    int    unix milliseconds; 0 = the server's TIME
--- @arg grace_ms  int    jobs younger than this stay
--- @arg offset    int    jobs at the beginning that earlier calls let stay
--- @arg limit     int    jobs looked at per call
--- @arg carried   int    jobs removed by earlier calls that were not announced yet
--- @arg announce  int    1: announce what was removed if all jobs were; 0: only when the end is reached
--- @return [looked at, announced (1) or not (0), id ...]; looked at < limit: this state is done
--- @event cleaned
--- @include age clock events iterations sweep

local newest_removed_ms = resolve_now(now_ms) - grace_ms

local function is_removable(job_id)
  if is_pending_iteration(keys, job_id) or not is_old(prefix .. job_id, place, newest_removed_ms) then
    return false
  end
  return place ~= 'active' or redis.call('EXISTS', prefix .. job_id .. ':lock') == 0
end

local removed, seen
if AGE_FIELDS[place] then
  local is_list = place == 'wait' or place == 'paused' or place == 'active'
  removed, seen = sweep(keys, keys[place], is_list, offset, limit, is_removable)
else
  local old = redis.call('ZCOUNT', keys[place], '-inf', integer(newest_removed_ms))
  removed = sweep(keys, keys[place], false, 0, math.min(limit, old))
  seen = #removed
end
local announced = (seen < limit or announce == 1 and #removed == limit) and 1 or 0
if announced == 1 then
  emit(keys, 'cleaned', 'count', integer(carried + #removed))
end
return { seen, announced, unpack(removed) }
