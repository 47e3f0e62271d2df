--- Settle the outcomes of active jobs and claim ready ones, in one atomic step.
--- Transition: active -> completed | failed | delayed | wait | waiting-children;  wait | prioritized -> active.
--- @key wait list ids ready to run; served from the tail
--- @key active list ids claimed by some worker, newest at the head
--- @key prioritized zset ids ready to run, by priority
--- @key pc string counter that keeps the order within a priority
--- @key delayed zset ids that wait for their time; score = ms * 4096 + sequence
--- @key waiting_children zset parents that wait for children
--- @key completed zset score = end in ms
--- @key failed zset score = end in ms
--- @key stalled set ids without a sign of life
--- @key limiter string jobs started in the current window; expires
--- @key marker zset wakes idle workers
--- @key events stream
--- @key meta hash settings
--- @key id string counter of generated ids
--- @key schedulers zset scheduler id -> time of its pending iteration
--- @key metrics_completed hash
--- @key metrics_completed_data list
--- @key metrics_failed hash
--- @key metrics_failed_data list
--- @derived {prefix}{id} hash one job
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg sender string uuid of the worker
--- @arg sequence int number of the exchange; 0 = keep no record
--- @arg claim int how many jobs to claim, at most
--- @arg token string lock token, or the part before its number
--- @arg first_token int number of the first token; -1 = use the token as it is
--- @arg lock_ms digits how long a lock lasts
--- @arg suspects int how many jobs that stalled before may be claimed
--- @option now_ms int unix milliseconds; 0 = the server's TIME
--- @option worker_name string stored on each job; '' = none
--- @option limiter_max int the worker's rate limit; 0 = none
--- @option limiter_duration_ms int window of the rate limit
--- @option metrics_points int minutes of metrics to keep; 0 = none
--- @option rearm int 1 = put the markers back that fit: the sender popped one and cannot use it
--- @rows outcomes id token kind value details
--- kind: completed failed retried backoff delayed delayed_until released returned rate_limited waiting_children
--- details: see the include of that name; '' = those of a job that completes and is kept, and of one that only goes back
--- @return [now_ms, codes, next_delayed_ms, rate_limit_ms, suspects, any_iteration, claimed ...]
--- codes: a code per outcome, or their number where all are 0; suspects: how many of the claimed jobs stalled before, at
--- most; any_iteration: 0 = no scheduler made one of them; claimed: groups of jobs, see include groups
--- @include clock settle claim exchange groups replay memory follow
--- @lazy keys ready remove retention
--- @lazy delayed parents siblings staged job deduplication requeue metrics rate_limit replay schedulers legacy iterate follow
--- @lazy delayed error_text check_children tell_others count_into_metrics has_stalled set_field
--- @lazy peek_prioritized mark_delayed rearm_marker announce_drained no_jobs

local now = resolve_now(now_ms)
local worker = {
  token = token, first_token = first_token, lock_ms = lock_ms, name = worker_name, limiter_max = limiter_max,
  limiter_duration_ms = limiter_duration_ms, suspects = suspects,
}

local is_lone = #outcomes == 1 and outcomes[1].kind ~= 'retried' -- its first write is one that is never refused
if not is_lone then
  write_even_when_full(prefix)
end
local record, stale = recall_exchange(prefix, sender, sequence)
if stale < 0 then
  return stale
elseif record then
  return replay_exchange(keys, record, worker, now)
end

local q = { keys = keys, now = now, now_text = integer(now), meta = read_meta(keys), batch = nil, has_children = false }
if #outcomes > 0 then
  cap_with_next_event(keys, q.meta)
end
local promoted = promote_before_retry(q, outcomes)
local codes, finished = settle_jobs(q, outcomes, metrics_points)
if first_token < 0 and codes[1] and codes[1] ~= 0 then
  claim = 0 -- settled by hand: the caller raises the refusal, and would lose a job that came with it
end
if is_lone and codes[1] ~= 0 then
  write_even_when_full(prefix)
end
local claimed, due
if claim > 0 then
  due = promote_due(q, promoted)
  claimed = claim_jobs(keys, q.meta, worker, claim, now)
else
  claimed = no_jobs(0, true)
end
if claimed.any_iteration then
  follow_claimed(keys, q.meta, claimed.jobs, now)
end
-- Upstream leaves the marker out where a job settled by hand brings the next one.
if q.batch.any_delayed and not (first_token < 0 and #claimed.jobs > 0) then
  mark_delayed(keys)
end
if claim == 0 or claimed.any_iteration then
  due = next_delayed(keys)
end
if finished > 0 and #claimed.jobs == 0 and claimed.ran_out and not (claim > 0 and due) then
  announce_drained(keys)
end
if rearm == 1 then
  rearm_marker(keys, q.meta)
end
codes = shorten(codes)
local tokens_text = ',"t":' .. format_integer(first_token)
record_exchange(prefix, sender, sequence, codes_text(codes) .. tokens_text .. ids_text('j', claimed.job_ids))
if q.batch.gave_back then
  claimed.limit_ms = math.max(claimed.limit_ms, limit_left(keys))
end
local next_delayed_ms = claimed.ran_out and due and math.floor(due) or 0
local any_iteration = claimed.any_iteration and 1 or 0
return append_jobs({ now, codes, next_delayed_ms, claimed.limit_ms, claimed.suspects, any_iteration }, claimed.jobs)
