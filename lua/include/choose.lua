--- Choose the jobs that a claim takes: off the wait list first, then by priority.
--- @include clock
--- @uses wait active prioritized pc

--- How far a call looks past suspects for other jobs: about a millisecond. From the first one on it looks in steps.
local CLAIM_SCAN = 500
local SCAN_STEP = 50

--- Up to `count` ids of the wait list in order of service, after the first `offset`.
local function peek_waiting(keys, offset, count)
  local job_ids = redis.call('LRANGE', keys.wait, integer(-(offset + count)), integer(-(offset + 1))) -- the newest first
  local length = #job_ids
  for i = 1, math.floor(length / 2) do
    job_ids[i], job_ids[length + 1 - i] = job_ids[length + 1 - i], job_ids[i]
  end
  return job_ids
end

--- Up to `count` ids of the prioritized set in order of service, after the first `offset`; also their scores.
local function peek_prioritized(keys, offset, count)
  local members = redis.call('ZRANGE', keys.prioritized, integer(offset), format_integer(offset + count - 1), 'WITHSCORES')
  local job_ids, scores = {}, {}
  for i = 1, #members, 2 do
    job_ids[#job_ids + 1] = members[i]
    scores[#scores + 1] = members[i + 1]
  end
  return job_ids, scores
end

--- What the fields of a hash are called, in order, and what that tells of a job: where it keeps its starts and stalls.
local function shape_of(fields)
  local names = {}
  local shape = { names = names, has_run = false, is_doomed = false, is_iteration = false }
  for i = 1, #fields, 2 do
    local name = fields[i]
    names[(i + 1) / 2] = name
    if name == 'ats' then
      shape.starts_at, shape.has_run = i + 1, true
    elseif name == 'processedOn' or name == 'pb' then
      shape.has_run = true
    elseif name == 'stc' then
      shape.stalls_at = i + 1
    elseif name == 'defa' then
      shape.is_doomed = true
    elseif name == 'rjk' then
      shape.is_iteration = true
    end
  end
  return shape
end

--- Whether the fields of a hash are called like that, in this order.
local function has_shape(fields, names)
  local count = #names
  if #fields ~= 2 * count then
    return false
  end
  for i = 1, count do
    if fields[i + i - 1] ~= names[i] then
      return false
    end
  end
  return true
end

--- Read a job that may be claimed: id key fields shape number (of its token, given later); `shape` is that of the job
--- before it, and nearly always of this one, too. False for what is no job and is dropped: a marker of old versions, which
--- begins with 0:, and an id without a hash, of which upstream would make a ghost.
local function read_candidate(keys, job_id, shape)
  local job_key = keys.prefix .. job_id
  local fields = string.sub(job_id, 1, 2) ~= '0:' and redis.pcall('HGETALL', job_key) or {}
  if #fields == 0 then
    return false
  end
  if not shape or not has_shape(fields, shape.names) then
    shape = shape_of(fields)
  end
  return { id = job_id, key = job_key, fields = fields, shape = shape, number = 0 }
end

--- Whether the job was active when a worker died: a look at one field, because a claim may pass by hundreds.
local function has_stalled(keys, job_id)
  local stalls = redis.pcall('HGET', keys.prefix .. job_id, 'stc')
  return type(stalls) == 'string' and (tonumber(stalls) or 0) > 0
end

--- Sort candidates into those that may run, up to `room`, and suspects that may not. Returns how many candidates that
--- took and how many more suspects may run.
local function sort_candidates(keys, choice, job_ids, scores, room, suspects)
  for i, job_id in ipairs(job_ids) do
    local score = scores and scores[i]
    if #choice.jobs >= room then
      return i - 1, suspects
    elseif suspects <= 0 and has_stalled(keys, job_id) then
      choice.skipped[#choice.skipped + 1] = { id = job_id, score = score }
    else
      local candidate = read_candidate(keys, job_id, choice.shape)
      if candidate then
        local n = #choice.jobs + 1
        choice.jobs[n], choice.job_ids[n], choice.shape = candidate, job_id, candidate.shape
        local stalls_at = candidate.shape.stalls_at
        if stalls_at and (tonumber(candidate.fields[stalls_at]) or 0) > 0 then
          suspects, choice.suspects = suspects - 1, choice.suspects + 1
        end
        choice.any_iteration = choice.any_iteration or candidate.shape.is_iteration
      end
    end
  end
  return #job_ids, suspects
end

--- Choose up to `room` jobs, of which at most `suspects` were active when a worker died. Returns the choice: jobs and
--- their ids, the skipped, how many suspects are among them, how many ids of each place it covers, and whether there
--- are no more.
local function choose_jobs(keys, room, suspects)
  local choice = {
    jobs = {}, job_ids = {}, skipped = {}, suspects = 0, waiting = 0, prioritized = 0, ran_empty = false,
    any_iteration = false, limit_ms = 0, ran_out = false,
  }
  local place, peek, taken = 'waiting', peek_waiting, 0
  while #choice.jobs < room and choice.waiting + choice.prioritized < CLAIM_SCAN and not choice.ran_empty do
    local wanted = room - #choice.jobs
    wanted = #choice.skipped > 0 and math.max(wanted, SCAN_STEP) or wanted
    local job_ids, scores = peek(keys, choice[place], wanted)
    taken, suspects = sort_candidates(keys, choice, job_ids, scores, room, suspects)
    choice[place] = choice[place] + taken
    if #job_ids < wanted and taken == #job_ids then
      choice.ran_empty = place == 'prioritized'
      place, peek = 'prioritized', peek_prioritized
    end
  end
  return choice
end

--- Suspects that may not run now go back to the very place they were taken from.
local function put_back(keys, skipped)
  local waiting = {}
  for i = #skipped, 1, -1 do
    if skipped[i].score then
      redis.call('ZADD', keys.prioritized, skipped[i].score, skipped[i].id)
    else
      waiting[#waiting + 1] = skipped[i].id
    end
  end
  if #waiting > 0 then
    redis.call('RPUSH', keys.wait, unpack(waiting))
  end
end

--- Move the chosen jobs to active. They leave their old place last, so that none is lost if the call fails. The counter
--- of priorities starts anew when their set has run empty.
local function take_chosen(keys, choice)
  if #choice.job_ids == 1 and choice.waiting == 1 and choice.prioritized == 0 then
    redis.call('RPOPLPUSH', keys.wait, keys.active)
  else
    if #choice.job_ids > 0 then
      redis.call('LPUSH', keys.active, unpack(choice.job_ids))
    end
    if choice.waiting > 0 then
      redis.call('LTRIM', keys.wait, '0', format_integer(-(choice.waiting + 1)))
    end
  end
  if choice.prioritized > 0 then
    redis.call('ZREMRANGEBYRANK', keys.prioritized, '0', integer(choice.prioritized - 1))
  end
  put_back(keys, choice.skipped)
  if choice.ran_empty and #choice.skipped == 0 then
    redis.call('DEL', keys.pc)
  end
end
