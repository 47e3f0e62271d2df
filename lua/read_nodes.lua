--- Read jobs of a flow, which may be in several queues, and the keys of their first children of each kind.
--- @key id string names the slot; not touched
--- @derived {node} hash one job; and the keys of its children
--- @arg limit int children of each kind that are asked for; 0 = none. Small sets are read as a whole.
--- @rows nodes job_key
--- @return per node: [flat fields, processed, unprocessed, failed, ignored]; each kind: [cursor, job key ...]; cursor 0:
--- these are all

--- Every second value: the fields of a hash, the members of a sorted set.
local function without_values(cursor, pairs_read)
  local found = { cursor }
  for i = 1, #pairs_read, 2 do
    found[#found + 1] = pairs_read[i]
  end
  return found
end

local function scan_hash(key)
  local step = redis.call('HSCAN', key, 0, 'COUNT', limit)
  return without_values(step[1], step[2])
end

local function scan_set(key)
  local step = redis.call('SSCAN', key, 0, 'COUNT', limit)
  return { step[1], unpack(step[2]) }
end

local function scan_sorted(key)
  local members = redis.call('ZRANGE', key, 0, limit - 1)
  return { #members < limit and '0' or tostring(limit), unpack(members) }
end

local reply = {}
for i, node in ipairs(nodes) do
  reply[i] = { redis.call('HGETALL', node.job_key) }
  if limit > 0 then
    reply[i][2] = scan_hash(node.job_key .. ':processed')
    reply[i][3] = scan_set(node.job_key .. ':dependencies')
    reply[i][4] = scan_sorted(node.job_key .. ':unsuccessful')
    reply[i][5] = scan_hash(node.job_key .. ':failed')
  end
end
return reply
