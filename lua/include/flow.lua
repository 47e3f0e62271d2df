--- Trees of jobs over several queues, parents before children: what a flow and a staged flow have in common.
--- @include keys duplicate parents clock place
--- @uses id
--- @error -21 FlowCycle a node of the flow is an ancestor of its root

--- Ancestors of a root that are looked at; beyond them nobody would notice a circle either.
local MAX_ANCESTORS = 1000

--- The queues of one call: places per prefix, in the order of their first node.
local function new_queues(now)
  return { now = now, by_prefix = {}, order = {} }
end

local function queue_of(queues, prefix)
  local q = queues.by_prefix[prefix]
  if not q then
    q = open_places(derive_keys(prefix), queues.now)
    queues.by_prefix[prefix] = q
    queues.order[#queues.order + 1] = q
  end
  return q
end

--- Every node spends a number of its queue, as every job does, though it has an id of its own.
local function spend_numbers(queues, nodes)
  local spent = {}
  for _, node in ipairs(nodes) do
    local keys = queue_of(queues, node.prefix).keys
    spent[keys.id] = (spent[keys.id] or 0) + 1
  end
  for counter, numbers in pairs(spent) do
    redis.call('INCRBY', counter, integer(numbers))
  end
end

local function close_queues(queues)
  for _, q in ipairs(queues.order) do
    close_places(q, true)
  end
end

--- Release the parents that wait for nothing: all children that they got had completed before. Parents come first.
local function release_parents(parent_keys, now)
  for _, parent_key in ipairs(parent_keys) do
    release_parent_if_ready(parent_key, now)
  end
end

--- Whether one of the nodes (a set of job keys) is an ancestor of the root.
local function is_circular(root_key, parent_key, node_keys)
  local ancestor = parent_key ~= '' and parent_key or redis.call('HGET', root_key, 'parentKey')
  for _ = 1, MAX_ANCESTORS do
    if not ancestor or ancestor == '' then
      return false
    elseif node_keys[ancestor] then
      return true
    end
    ancestor = redis.call('HGET', ancestor, 'parentKey')
  end
  return false
end

--- Why the nodes of one tree, the root first, cannot be added: the number of a node, and a code; nothing if they can.
local function refuse_tree(nodes, now)
  local node_keys = {}
  for i, node in ipairs(nodes) do
    local job_key = node.prefix .. node.job_id
    node_keys[job_key] = true
    if i == 1 and node.parent_key ~= '' and redis.call('EXISTS', node.parent_key) == 0 then
      return i, -5
    elseif belongs_to_another(job_key, node.parent_key, now) then
      return i, -7
    end
  end
  local root = nodes[1]
  if root and is_circular(root.prefix .. root.job_id, root.parent_key, node_keys) then
    return 1, -21
  end
end
