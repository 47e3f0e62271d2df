--- Claimed jobs as a reply holds them: grouped, in order, by the names of their fields. A name or a number that is said
--- once per group instead of once per job saves half of what answering costs; so does a text in the place of a table.
--- @include choose

--- Stands between names of fields.
local NAME_END = '\0'

local function join_names(names)
  local is_plain = #names > 0 and not string.find(table.concat(names), NAME_END, 1, true)
  return is_plain and table.concat(names, NAME_END) or names
end

--- Append the groups of jobs to a reply. jobs: id number fields shape is_changed; is_changed: the fields are not those
--- of the shape. Four elements per group: names, joined by NUL, or as a table where that would be ambiguous; the number of the first job's token, -1 = as it is; 1 = the fields that
--- a first start writes are left out; ids and values of the fields, job after job.
local function append_jobs(reply, jobs)
  local values, shape, at, last = nil, nil, 0, #reply
  for _, job in ipairs(jobs) do
    local fields = job.fields
    if job.is_changed or job.shape ~= shape then
      local names = job.is_changed and shape_of(fields).names or job.shape.names
      local is_first_run = job.shape and not job.shape.has_run
      values, shape, at = {}, not job.is_changed and job.shape or nil, 0
      reply[last + 1], reply[last + 2] = join_names(names), job.number
      reply[last + 3], reply[last + 4] = is_first_run and 1 or 0, values
      last = last + 4
    end
    at = at + 1
    values[at] = job.id
    for i = 2, #fields, 2 do
      at = at + 1
      values[at] = fields[i]
    end
  end
  return reply
end
