--- Trees of jobs over several queues, parents before children: what a flow and a staged flow have in common.
--- @include keys duplicate parents clock place intact
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
    local keys = derive_keys(prefix)
    check_intact(keys)
    q = open_places(keys, queues.now)
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
    close_places(q)
    trim_events(q.keys, q.meta)
  end
end

--- Make jobs dependencies of their parents; links: parent key -> job keys.
local function link_children(links)
  for parent_key, job_keys in pairs(links) do
    if #job_keys > 0 then
      redis.pcall('SADD', parent_key .. ':dependencies', unpack(job_keys))
    end
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

--- Look a node up: whether its job exists, and whether another parent owns it. Nobody has an id made for this flow.
local function is_taken(node, owners, now)
  if node.is_new == 1 then
    node.exists = false
    return false
  end
  local job_key = node.prefix .. node.job_id
  local values, in_this_call = redis.call('HMGET', job_key, 'name', 'parentKey'), owners[job_key]
  node.exists = values[1] ~= false or in_this_call ~= nil
  if node.parent_key == '' then
    return false
  elseif in_this_call and in_this_call ~= '' then
    return in_this_call ~= node.parent_key
  end
  return is_other_parent(values[2], node.parent_key, now)
end

--- Why the nodes of one tree, the root first, cannot be added: the number of a node, and a code; nothing if they can.
--- `owners` are the parents of nodes that earlier trees of the call add: job key -> parent key.
local function refuse_tree(nodes, owners, now)
  local root, node_keys = nodes[1], {}
  if root.parent_key ~= '' and redis.call('EXISTS', root.parent_key) == 0 then
    return 1, -5
  end
  for i, node in ipairs(nodes) do
    node_keys[node.prefix .. node.job_id] = node.parent_key
    if is_taken(node, owners, now) then
      return i, -7
    end
  end
  if (root.is_new == 0 or root.parent_key ~= '') and is_circular(root.prefix .. root.job_id, root.parent_key, node_keys) then
    return 1, -21
  end
  for job_key, parent_key in pairs(node_keys) do
    owners[job_key] = parent_key
  end
end
