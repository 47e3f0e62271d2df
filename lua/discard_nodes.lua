--- Delete nodes of a large flow that were stored and have no place: its add was refused half-way.
--- Transition: (staged) -> removed.
--- @key id string names the slot; not touched
--- @derived {node} hash one job, in the queue of its node, and the keys below it
--- @derived {parent}:dependencies set pending children
--- @arg flow string uuid of the add that stored them; nodes of others stay
--- @rows nodes prefix job_id parent_key
--- @return how many were deleted
--- @include keys staged

local deleted = 0
for _, node in ipairs(nodes) do
  local job_key = node.prefix .. node.job_id
  if string.match(redis.call('HGET', job_key, STAGED) or '', ':(.*)$') == flow then
    if node.parent_key ~= '' then
      redis.call('SREM', node.parent_key .. ':dependencies', job_key)
    end
    delete_job_keys(job_key)
    deleted = deleted + 1
  end
end
return deleted
