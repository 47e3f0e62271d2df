--- Give nodes of a large flow their places, when all of its nodes are stored: parents first, leaves last.
--- Transition: (staged) -> waiting-children | wait | prioritized | delayed.
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
--- @rows nodes prefix job_id name timestamp_ms:int delay_ms:int priority:int placement parent_key
--- parent_key: of a root whose parent is outside of the flow, else ''
--- @return [now_ms, statuses]; status: 0 placed, 1 the job has a place already
--- statuses: their number where all are 0
--- @include clock exchange stage

local now = resolve_now(now_ms)
local record, stale = recall_exchange(prefix, sender, sequence)
if stale < 0 then
  return stale
elseif record then
  return { now, record.c }
end
local statuses, code = place_nodes(nodes, now)
if not statuses then
  return code
end
statuses = shorten(statuses)
record_exchange(prefix, sender, sequence, codes_text(statuses))
return { now, statuses }
