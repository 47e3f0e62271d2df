--- Jobs of a large flow that are stored, but have no place yet: no list or set holds them, so nothing can run them.
--- The field `pyq:staged` of their hash says since when, and which producer wrote it: `<ms>:<uuid>`.

local STAGED = 'pyq:staged'
--- A flow that was left unfinished so long ago has no producer any more: each of its calls is sent again for less.
local ABANDONED_MS = 600000

--- Whether the hash is that of a job that a producer staged and then left.
local function is_abandoned(job_key, now)
  local since = tonumber(string.match(redis.call('HGET', job_key, STAGED) or '', '^%d+'))
  return since ~= nil and since < now - ABANDONED_MS
end

--- Whether a producer is adding the flow of the job, as far as can be told.
local function is_being_added(job_key, now)
  return type(redis.pcall('HGET', job_key, STAGED)) == 'string' and not is_abandoned(job_key, now)
end

--- Whoever takes a staged job gives it its place; false for every other job.
local function take_staged(job_key)
  return redis.call('HDEL', job_key, STAGED) == 1
end
