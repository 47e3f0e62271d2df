--- The next iterations of `every` schedulers, made in the very call that claims their jobs: a worker that dies right
--- after it leaves no gap in the schedule. Others (by a pattern, first ones, those of other clients) are the worker's.
--- @include clock iterate

--- An iteration costs about 40 us; a call must stay short. The worker makes the rest.
local FOLLOWED_PER_CALL = 20
--- Field added to a claimed job whose next iteration was seen to; it is not stored.
local FOLLOWED = 'pyq:followed'

local function field_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
end

local function is_number_or_nil(value)
  return value == nil or type(value) == 'number'
end

--- Options of the next iteration as text: those of the running one, as our scripts write them, up to its count.
local function next_options(opts)
  local head, count = string.match(opts, '^(.*"repeat":{[^{}]*"count":)(%d+)},"repeatJobKey":')
  if head then
    return head .. integer(count + 1) .. '}}', count + 1
  end
end

--- See to one job's next iteration; returns false where that is left to the worker.
local function follow(keys, meta, job_id, fields, now)
  local scheduler_id, opts = field_of(fields, 'rjk'), field_of(fields, 'opts')
  local following, count = next_options(opts or '')
  if not scheduler_id or not following then
    return false
  end
  local options = cjson.decode(opts)
  local rule = options['repeat']
  if type(rule.every) ~= 'number' or rule.pattern ~= nil or not is_number_or_nil(rule.offset)
    or options.attempts == nil or not is_number_or_nil(rule.limit)
    or not is_number_or_nil(rule.endDate) or not is_number_or_nil(rule.startDate) then
    return false
  elseif (rule.limit and count > rule.limit) or (rule.endDate and now > rule.endDate) then
    return true
  end
  return iterate(keys, meta, {
    scheduler_id = scheduler_id, producer_id = job_id, opts = following, every = rule.every, offset = rule.offset or 0,
    start_ms = rule.startDate or 0, slot = 0, priority = tonumber(options.priority) or 0, lifo = options.lifo and 1 or 0,
  }, now) ~= 'legacy'
end

--- See to the next iterations of claimed jobs, and say so in their fields.
local function follow_claimed(keys, meta, jobs, now)
  local followed = 0
  for _, job in ipairs(jobs) do
    if followed < FOLLOWED_PER_CALL and string.sub(job.id, 1, 7) == 'repeat:' then
      local fields = job.fields
      local succeeded, is_done = pcall(follow, keys, meta, job.id, fields, now)
      if succeeded and is_done then
        followed = followed + 1
        job.is_changed = true
        fields[#fields + 1] = FOLLOWED
        fields[#fields + 1] = '1'
      end
    end
  end
end
