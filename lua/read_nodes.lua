--- Read jobs of a flow, which may be in several queues, and the keys of their first children of each kind.
--- @key id string names the slot; not touched
--- @derived {node} hash one job; and the keys of its children
--- @arg limit int children of each kind that are asked for; 0 = none. Small sets are read as a whole.
--- @rows nodes job_key
--- @return per node: [flat fields, processed, unprocessed, failed, ignored]; each kind: [cursor, job key ...]; cursor 0:
--- these are all
--- @include child_pages

local reply = {}
for i, node in ipairs(nodes) do
  reply[i] = { redis.call('HGETALL', node.job_key) }
  if limit > 0 then
    append_child_pages(reply[i], node.job_key, limit)
  end
end
return reply
