--- Choose the jobs that a claim takes: off the wait list first, then by priority.
--- @uses wait active prioritized pc

--- Fields that decide about a claim, or that it writes.
local OF_INTEREST = { stc = true, ats = true, processedOn = true, pb = true, defa = true }
--- How far a call looks past suspects for other jobs: about a millisecond. From the first one on it looks in steps.
local CLAIM_SCAN = 500
local SCAN_STEP = 50

--- Up to `count` ids of the wait list in order of service, after the first `offset`.
local function peek_waiting(keys, offset, count)
  local newest_first = redis.call('LRANGE', keys.wait, -(offset + count), -(offset + 1))
  local candidates = {}
  for i = #newest_first, 1, -1 do
    candidates[#candidates + 1] = { id = newest_first[i] }
  end
  return candidates
end

--- Up to `count` ids of the prioritized set in order of service, after the first `offset`.
local function peek_prioritized(keys, offset, count)
  local members = redis.call('ZRANGE', keys.prioritized, offset, offset + count - 1, 'WITHSCORES')
  local candidates = {}
  for i = 1, #members, 2 do
    candidates[#candidates + 1] = { id = members[i], score = members[i + 1] }
  end
  return candidates
end

--- Read a candidate's fields; false for what is no job and is dropped: a marker of old versions, which begins with
--- 0:, and an id without a hash, of which upstream would make a ghost.
local function inspect(keys, candidate)
  if string.sub(candidate.id, 1, 2) == '0:' then
    return false
  end
  local fields = redis.pcall('HGETALL', keys.prefix .. candidate.id)
  local position = {}
  for i = 1, #fields, 2 do
    if OF_INTEREST[fields[i]] then
      position[fields[i]] = i + 1
    end
  end
  candidate.fields = fields
  candidate.position = position
  candidate.is_suspect = position.stc ~= nil and (tonumber(fields[position.stc]) or 0) > 0
  return #fields > 0
end

--- Whether the job was active when a worker died: a look at one field, because a claim may pass by hundreds.
local function has_stalled(keys, candidate)
  local stalls = redis.pcall('HGET', keys.prefix .. candidate.id, 'stc')
  return type(stalls) == 'string' and (tonumber(stalls) or 0) > 0
end

--- Sort candidates into those that may run, up to `room`, and suspects that may not. Returns how many candidates that
--- took and how many more suspects may run.
local function sort_candidates(keys, candidates, choice, room, suspects)
  for n, candidate in ipairs(candidates) do
    if #choice.jobs >= room then
      return n - 1, suspects
    elseif suspects <= 0 and has_stalled(keys, candidate) then
      choice.skipped[#choice.skipped + 1] = candidate
    elseif inspect(keys, candidate) then
      suspects = candidate.is_suspect and suspects - 1 or suspects
      choice.jobs[#choice.jobs + 1] = candidate
    end
  end
  return #candidates, suspects
end

--- Choose up to `room` jobs, of which at most `suspects` were active when a worker died. Returns the choice: jobs, the
--- skipped, how many ids of each place it covers, and whether there are no more.
local function choose_jobs(keys, room, suspects)
  local choice = { jobs = {}, skipped = {}, waiting = 0, prioritized = 0, ran_empty = false }
  local place, peek, taken = 'waiting', peek_waiting, 0
  while #choice.jobs < room and choice.waiting + choice.prioritized < CLAIM_SCAN and not choice.ran_empty do
    local wanted = room - #choice.jobs
    wanted = #choice.skipped > 0 and math.max(wanted, SCAN_STEP) or wanted
    local candidates = peek(keys, choice[place], wanted)
    taken, suspects = sort_candidates(keys, candidates, choice, room, suspects)
    choice[place] = choice[place] + taken
    if #candidates < wanted and taken == #candidates then
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
  local job_ids = {}
  for n, job in ipairs(choice.jobs) do
    job_ids[n] = job.id
  end
  if #job_ids > 0 then
    redis.call('LPUSH', keys.active, unpack(job_ids))
  end
  if choice.waiting > 0 then
    redis.call('LTRIM', keys.wait, 0, -(choice.waiting + 1))
  end
  if choice.prioritized > 0 then
    redis.call('ZREMRANGEBYRANK', keys.prioritized, 0, choice.prioritized - 1)
  end
  put_back(keys, choice.skipped)
  if choice.ran_empty and #choice.skipped == 0 then
    redis.call('DEL', keys.pc)
  end
end
