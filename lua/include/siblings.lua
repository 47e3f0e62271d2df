--- Completed children of one parent in one call: the parent is told of all of them at once.
--- @include errors parents

--- Note a completed child: its parent is told of all its children at the end of the call.
local function join_siblings(families, job, outcome)
  local family = families[job.parent_key]
  if not family then
    family = { parent_key = job.parent_key, child_keys = {}, return_values = {}, rows = {} }
    families[job.parent_key] = family
    families[#families + 1] = family
  end
  table.insert(family.child_keys, job.key)
  table.insert(family.return_values, outcome.value)
  table.insert(family.rows, job.row)
end

--- Tell the parents of completed children. If one cannot be told, the codes of its children are the text of that error.
local function tell_parents(q, codes)
  for _, family in ipairs(q.batch.families or {}) do
    local told, problem = pcall(children_completed, family.child_keys, family.parent_key, family.return_values, q.now)
    for _, row in ipairs(told and {} or family.rows) do
      codes[row] = error_text(problem)
    end
  end
end
