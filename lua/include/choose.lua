--- Choose the jobs that a claim takes: off the wait list first, then by priority.
--- @uses wait prioritized pc

--- Fields that decide about a claim, or that it writes.
local OF_INTEREST = { stc = true, ats = true, processedOn = true, pb = true, defa = true }
--- How far a call looks past suspects for other jobs.
local CLAIM_SCAN = 200

--- Take up to `room` ids off the wait list, in order of service.
local function take_waiting(keys, room)
  local taken = redis.call('LRANGE', keys.wait, -room, -1)
  if #taken > 0 then
    redis.call('LTRIM', keys.wait, 0, -(#taken + 1))
  end
  local candidates = {}
  for i = #taken, 1, -1 do
    candidates[#candidates + 1] = { id = taken[i] }
  end
  return candidates
end

--- Take up to `room` ids off the prioritized set, in order of service.
local function take_prioritized(keys, room)
  local popped = redis.call('ZPOPMIN', keys.prioritized, room)
  local candidates = {}
  for i = 1, #popped, 2 do
    candidates[#candidates + 1] = { id = popped[i], score = popped[i + 1] }
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

--- Suspects that may not run now go back to the very place they were taken from.
local function put_back(keys, skipped)
  for i = #skipped, 1, -1 do
    if skipped[i].score then
      redis.call('ZADD', keys.prioritized, skipped[i].score, skipped[i].id)
    else
      redis.call('RPUSH', keys.wait, skipped[i].id)
    end
  end
end

--- Choose up to `room` jobs, of which at most `suspects` were active when a worker died. The counter of priorities
--- starts anew when their set has run empty.
local function choose_jobs(keys, room, suspects)
  local chosen, skipped, scanned = {}, {}, 0
  local take, ran_empty = take_waiting, false
  while #chosen < room and scanned < CLAIM_SCAN and not ran_empty do
    local wanted = room - #chosen
    local candidates = take(keys, wanted)
    scanned = scanned + #candidates
    for _, candidate in ipairs(candidates) do
      if inspect(keys, candidate) then
        local may_run = not candidate.is_suspect or suspects > 0
        suspects = candidate.is_suspect and suspects - 1 or suspects
        local list = may_run and chosen or skipped
        list[#list + 1] = candidate
      end
    end
    if #candidates < wanted then
      ran_empty = take == take_prioritized
      take = take_prioritized
    end
  end
  put_back(keys, skipped)
  if ran_empty and #skipped == 0 then
    redis.call('DEL', keys.pc)
  end
  return chosen
end
