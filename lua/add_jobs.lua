--- Add jobs to a queue, each to its place: ready, prioritized, delayed or waiting for children.
--- Transition: (new) -> wait | prioritized | delayed | waiting-children.
--- @key id string counter of generated ids
--- @key meta hash settings
--- @key wait list ids ready to run; new ones enter at the head
--- @key active list
--- @key prioritized zset
--- @key pc string
--- @key delayed zset
--- @key waiting_children zset
--- @key completed zset
--- @key marker zset
--- @key events stream
--- @derived {prefix}{id} hash one job
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg now_ms int unix milliseconds; 0 = the server's TIME
--- @arg sender string uuid of the producer
--- @arg sequence int number of the call; 0 = keep no record; negative = the call follows another one, which may have failed
--- @rows jobs data | name opts job_id timestamp_ms:int delay_ms:int priority:int placement parent_key parent dedup
--- job_id: '' = generate one; timestamp_ms: 0 = now; placement: '' by delay and priority, lifo, children;
--- parent_key, parent, dedup: '' = none
--- @return [now_ms, job_ids, statuses]; status: 0 created, 1 duplicate, 2 deduplicated, 3 replaced a job, or a code
--- job_ids: the first of them, where all were created with generated ids; statuses: their number where all are 0
--- @include clock exchange add
--- @lazy keys delayed staged deduplication deduplicate remove parents duplicate
--- @lazy keys error_text undo_add store_job enqueue_job append_field has_parent
--- @lazy priority_base priority_score push_prioritized next_delayed mark_delayed ids_text

local now, follows = resolve_now(now_ms), sequence < 0
sequence = math.abs(sequence)
local record, stale = recall_exchange(prefix, sender, sequence)
if stale < 0 then
  return stale
elseif record then
  return { now, tonumber(record.i) or record.i, record.c }
elseif follows and not is_next(prefix, sender, sequence) then
  return OUT_OF_TURN
end
local job_ids, statuses = add_jobs(keys, jobs, now)
statuses = shorten(statuses)
local are_numbered = type(statuses) == 'number' and statuses > 0 and none_has(jobs, 'job_id') -- one after the other
local recorded = are_numbered and ',"i":"' .. job_ids[1] .. '"' or ids_text('i', job_ids)
record_exchange(prefix, sender, sequence, recorded .. codes_text(statuses))
return { now, are_numbered and job_ids[1] + 0 or job_ids, statuses }
