--- Claimed jobs as a reply holds them: grouped, in order, by the names of their fields. A name or a number that is said
--- once per group instead of once per job saves half of what answering costs.
--- @include choose

--- jobs: id number fields shape is_changed; is_changed: the fields are not those of the shape. Returns groups: names;
--- the number of the first job's token, -1 = as it is; 1 = the fields that a first start writes are left out; ids and
--- values of the fields, job after job.
local function group_jobs(jobs)
  local groups, values, shape, at = {}, nil, nil, 0
  for _, job in ipairs(jobs) do
    local fields = job.fields
    if job.is_changed or job.shape ~= shape then
      local names = job.is_changed and shape_of(fields).names or job.shape.names
      local is_first_run = job.shape and not job.shape.has_run
      values, shape, at = {}, not job.is_changed and job.shape or nil, 0
      groups[#groups + 1] = { names, job.number, is_first_run and 1 or 0, values }
    end
    at = at + 1
    values[at] = job.id
    for i = 2, #fields, 2 do
      at = at + 1
      values[at] = fields[i]
    end
  end
  return groups
end
