--- Large flows in steps: store all nodes, then give parents their places, then leaves. A parent knows all its children
--- before one of them can run.
--- @include staged job duplicate flow
--- @error -5 ParentNotFound the root's parent is missing
--- @event added

--- Placed by this call, or left as it is: another add of the same id was first.
local DONE, EXISTS = 0, 1

--- Why a node cannot be added; 0 if it can. Only a root has a parent outside of its flow.
local function refuse_node(node, now)
  if node.is_root == 1 and node.parent_key ~= '' and redis.call('EXISTS', node.parent_key) == 0 then
    return -5
  end
  return belongs_to_another(node.prefix .. node.job_id, node.parent_key, now) and -7 or 0
end

--- Take over what an unfinished flow left of a node: another parent there need not wait for it.
local function leave_unfinished(job_key, owner, parent_key)
  if owner and owner ~= parent_key then
    redis.call('SREM', owner .. ':dependencies', job_key)
  end
  redis.call('DEL', job_key)
end

--- Store one node without a place. It joins `links` (parent key -> job keys), save a root: its parent outside of the
--- flow must not wait for a node that may never get a place.
local function stage_node(queues, node, stamp, links)
  local job_key = node.prefix .. node.job_id
  local values = node.is_new == 1 and {} or redis.call('HMGET', job_key, 'name', 'parentKey', STAGED)
  if node.parent_key ~= '' and is_other_parent(values[2], node.parent_key, queues.now) then
    return -7
  elseif values[1] and not values[3] then
    node.in_flow = true
    attach_existing(queue_of(queues, node.prefix).keys, node, node.job_id)
    return EXISTS
  elseif values[1] then
    leave_unfinished(job_key, values[2], node.parent_key)
  end
  node.staged = stamp
  write_job(job_key, node, node.timestamp_ms > 0 and node.timestamp_ms or queues.now)
  if node.is_root == 0 then
    links[node.parent_key] = links[node.parent_key] or {}
    table.insert(links[node.parent_key], job_key)
  end
  return DONE
end

--- Store nodes, parents before children, and all their links.
local function stage_nodes(nodes, now, stamp)
  local queues, links, statuses = new_queues(now), {}, {}
  spend_numbers(queues, nodes)
  for i, node in ipairs(nodes) do
    statuses[i] = stage_node(queues, node, stamp, links)
  end
  link_children(links)
  close_queues(queues)
  return statuses
end

--- Give one stored node its place; a node that existed before has one.
local function place_node(queues, node)
  local job_key = node.prefix .. node.job_id
  if not take_staged(job_key) then
    return EXISTS
  end
  local q = queue_of(queues, node.prefix)
  announce_job(q.keys, node.job_id, node.name)
  if node.parent_key ~= '' then
    redis.call('SADD', node.parent_key .. ':dependencies', job_key)
  end
  place_job(q, node, node.job_id, node.timestamp_ms)
  return DONE
end

--- Give stored nodes their places, all or none; parents whose children all had completed before are released.
local function place_nodes(nodes, now)
  local queues, parent_keys, statuses = new_queues(now), {}, {}
  for _, node in ipairs(nodes) do
    if node.parent_key ~= '' and redis.call('EXISTS', node.parent_key) == 0 then
      return nil, -5
    end
  end
  for i, node in ipairs(nodes) do
    statuses[i] = place_node(queues, node)
    if node.placement == 'children' then
      parent_keys[#parent_keys + 1] = node.prefix .. node.job_id
    end
  end
  close_queues(queues)
  release_parents(parent_keys, now)
  return statuses
end
