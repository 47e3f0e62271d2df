--- Add trees of jobs in one step, each whole or not at all.
--- @include add flow

--- Status of a node that was not added because another node of its tree was refused.
local SKIPPED = 4

--- The nodes of each tree, in the order of the trees' first nodes; each node learns its row.
local function group_trees(nodes)
  local trees, by_name = {}, {}
  for i, node in ipairs(nodes) do
    local tree = by_name[node.tree]
    if not tree then
      tree = {}
      by_name[node.tree] = tree
      trees[#trees + 1] = tree
    end
    tree[#tree + 1] = node
    node.row = i
  end
  return trees
end

--- The nodes of trees that can be added, in order; the others get their statuses.
local function accept_trees(nodes, statuses, now)
  local owners, accepted = {}, {}
  for _, tree in ipairs(group_trees(nodes)) do
    local refused, code = refuse_tree(tree, owners, now)
    for i, node in ipairs(tree) do
      statuses[node.row] = refused and (i == refused and code or SKIPPED) or CREATED
    end
  end
  for i, node in ipairs(nodes) do
    if statuses[i] == CREATED then
      accepted[#accepted + 1] = node
    end
  end
  return accepted
end

--- Add one node; returns its id and status. A child joins `links` instead of being linked at once.
local function add_node(q, node, links)
  node.now, node.in_flow, node.number = q.now, true, 0
  node.has_parent = node.parent_key ~= '' and links[node.parent_key] ~= nil
  local job_id, status = try_to_add(q, node)
  local job_key = node.prefix .. node.job_id
  if type(status) == 'number' and status >= 0 then
    links[job_key] = links[job_key] or {}
  end
  -- A child that could not be stored is a dependency all the same: its parent must not run without it.
  if node.parent_key ~= '' and (status == CREATED or type(status) == 'string') then
    links[node.parent_key] = links[node.parent_key] or {}
    table.insert(links[node.parent_key], job_key)
  end
  return job_id, status
end

--- Add all nodes; returns ids and statuses in order. Parents that got a child which existed before are looked at last.
local function add_trees(nodes, now)
  local job_ids, statuses, links, parent_keys, is_listed = {}, {}, {}, {}, {}
  local accepted, queues = accept_trees(nodes, statuses, now), new_queues(now)
  for i, node in ipairs(nodes) do
    job_ids[i] = node.job_id
  end
  spend_numbers(queues, accepted)
  for _, node in ipairs(accepted) do
    job_ids[node.row], statuses[node.row] = add_node(queue_of(queues, node.prefix), node, links)
    if statuses[node.row] == DUPLICATE and node.parent_key ~= '' and not is_listed[node.parent_key] then
      is_listed[node.parent_key] = true
      parent_keys[#parent_keys + 1] = node.parent_key
    end
  end
  link_children(links)
  close_queues(queues)
  release_parents(parent_keys, now)
  return job_ids, statuses
end
