--- Choose the jobs that a claim takes: off the wait list first, then by priority.
--- @uses wait prioritized pc

--- How far a call looks past suspects for other jobs.
local CLAIM_SCAN = 200

--- Take up to `room` ids off the wait list, in order of service. Ids that begin with 0: are markers of old versions.
local function take_waiting(keys, room)
  local taken = redis.call('LRANGE', keys.wait, -room, -1)
  if #taken == 0 then
    return {}
  end
  redis.call('LTRIM', keys.wait, 0, -(#taken + 1))
  local candidates = {}
  for i = #taken, 1, -1 do
    if string.sub(taken[i], 1, 2) ~= '0:' then
      candidates[#candidates + 1] = { id = taken[i] }
    end
  end
  return candidates
end

--- Take up to `room` ids off the prioritized set; its counter starts anew when the set runs empty.
local function take_prioritized(keys, room)
  local popped = redis.call('ZPOPMIN', keys.prioritized, room)
  if #popped < room * 2 then
    redis.call('DEL', keys.pc)
  end
  local candidates = {}
  for i = 1, #popped, 2 do
    candidates[#candidates + 1] = { id = popped[i], score = popped[i + 1] }
  end
  return candidates
end

--- Read a candidate's fields; false for an id without a hash, which is dropped (upstream would make a ghost of it).
local function inspect(keys, candidate)
  local fields = redis.call('HGETALL', keys.prefix .. candidate.id)
  local position = {}
  for i = 1, #fields, 2 do
    position[fields[i]] = i + 1
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

--- Choose up to `room` jobs, of which at most `suspects` were active when a worker died.
local function choose_jobs(keys, room, suspects)
  local chosen, skipped, scanned = {}, {}, 0
  while #chosen < room and scanned < CLAIM_SCAN do
    local wanted = room - #chosen
    local candidates = take_waiting(keys, wanted)
    if #candidates == 0 then
      candidates = take_prioritized(keys, wanted)
    end
    if #candidates == 0 then
      break
    end
    scanned = scanned + #candidates
    for _, candidate in ipairs(candidates) do
      if inspect(keys, candidate) then
        local may_run = not candidate.is_suspect or suspects > 0
        suspects = candidate.is_suspect and suspects - 1 or suspects
        local list = may_run and chosen or skipped
        list[#list + 1] = candidate
      end
    end
  end
  put_back(keys, skipped)
  return chosen
end
