--- Add trees of jobs in one step: parents wait for their children, children become ready. A tree is added whole or not
--- at all; trees with more nodes than one call should add are staged instead.
--- Transition: (new) -> waiting-children | wait | prioritized | delayed.
--- @key id string counter of generated ids
--- @key meta hash settings
--- @key wait list ids ready to run
--- @key active list
--- @key prioritized zset
--- @key pc string
--- @key delayed zset
--- @key waiting_children zset
--- @key completed zset
--- @key marker zset
--- @key events stream
--- @derived {node} hash one job, in the queue of its node; and that queue's keys
--- @derived {parent}:dependencies set pending children
--- @arg prefix string key prefix of the queue that keeps the exchange record, ends with ':'
--- @arg now_ms int unix milliseconds; 0 = the server's TIME
--- @arg sender string uuid of the producer
--- @arg sequence int number of the call; 0 = keep no record
--- @rows nodes tree prefix data name opts job_id timestamp_ms:int delay_ms:int priority:int placement parent_key parent dedup is_new:int
--- A parent comes before its children. tree: any text, the same for all nodes of a tree; prefix: of the node's queue;
--- is_new: 1 = the id was made for this flow;
--- the rest as in add_jobs.
--- @return [now_ms, job_ids, statuses]; status: as in add_jobs, 4 not added because another node of its tree was refused
--- statuses: their number where all are 0
--- @include clock exchange trees

local now = resolve_now(now_ms)
local record, stale = recall_exchange(prefix, sender, sequence)
if stale < 0 then
  return stale
elseif record then
  return { now, record.i, record.c }
end
local job_ids, statuses = add_trees(nodes, now)
statuses = shorten(statuses)
record_exchange(prefix, sender, sequence, ids_text('i', job_ids) .. codes_text(statuses))
return { now, job_ids, statuses }
