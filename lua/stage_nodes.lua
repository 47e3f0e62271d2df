--- Store a part of a large flow: hashes and links of its nodes. Nothing can run them before `place_nodes`.
--- Transition: (new) -> (staged, in no state).
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
--- @arg flow string uuid of this add of the flow
--- @arg check_only int 1 = write nothing, only say what would be refused
--- @rows nodes prefix job_id name data opts timestamp_ms:int delay_ms:int priority:int parent_key parent is_root:int is_new:int
--- A parent comes before its children, in this call or an earlier one.
--- @return [now_ms, statuses]; status: 0 stored, 1 the job existed and was attached to its parent, or a code
--- statuses: their number where all are 0
--- @include clock exchange stage

local now = resolve_now(now_ms)
local record, stale = recall_exchange(prefix, sender, sequence)
if stale < 0 then
  return stale
elseif record then
  return { now, record.c }
end
local statuses
if check_only == 1 then
  statuses = {}
  for i, node in ipairs(nodes) do
    statuses[i] = refuse_node(node, now)
  end
else
  statuses = stage_nodes(nodes, now, integer(now) .. ':' .. flow)
end
statuses = shorten(statuses)
record_exchange(prefix, sender, sequence, codes_text(statuses))
return { now, statuses }
