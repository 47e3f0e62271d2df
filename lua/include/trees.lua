--- Add trees of jobs in one step, each whole or not at all.
--- @include add flow

--- Status of a node that was not added because another node of its tree was refused.
local SKIPPED = 4

--- The nodes of each tree, in order; each node learns its row.
local function group_trees(nodes)
  local trees = {}
  for i, node in ipairs(nodes) do
    local tree = trees[node.tree] or {}
    trees[node.tree] = tree
    tree[#tree + 1] = node
    node.row = i
  end
  return trees
end

--- The nodes of trees that can be added; the others get their statuses.
local function accept_trees(nodes, statuses, now)
  for _, tree in pairs(group_trees(nodes)) do
    local refused, code = refuse_tree(tree, now)
    for i, node in ipairs(tree) do
      statuses[node.row] = refused and (i == refused and code or SKIPPED) or CREATED
    end
  end
  local accepted = {}
  for i, node in ipairs(nodes) do
    if statuses[i] == CREATED then
      accepted[#accepted + 1] = node
    end
  end
  return accepted
end

--- Add one node; returns its id and status.
local function add_node(q, node, now)
  node.now, node.in_flow, node.number = now, true, 0
  local job_id, status = try_to_add(q, node)
  if type(status) == 'string' and node.parent_key ~= '' then
    -- A child that could not be stored stays a dependency: its parent must not run without it.
    redis.pcall('SADD', node.parent_key .. ':dependencies', node.prefix .. node.job_id)
  end
  return job_id, status
end

--- Add all nodes; returns ids and statuses in order. Parents that got a child which existed before are looked at last.
local function add_trees(nodes, now)
  local job_ids, statuses, parent_keys, is_known = {}, {}, {}, {}
  local accepted, queues = accept_trees(nodes, statuses, now), new_queues(now)
  for i, node in ipairs(nodes) do
    job_ids[i] = node.job_id
  end
  spend_numbers(queues, accepted)
  for _, node in ipairs(accepted) do
    job_ids[node.row], statuses[node.row] = add_node(queue_of(queues, node.prefix), node, now)
    if statuses[node.row] == DUPLICATE and node.parent_key ~= '' and not is_known[node.parent_key] then
      is_known[node.parent_key] = true
      parent_keys[#parent_keys + 1] = node.parent_key
    end
  end
  close_queues(queues)
  release_parents(parent_keys, now)
  return job_ids, statuses
end
