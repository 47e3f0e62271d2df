--- Find job schedulers without a pending job: it was lost, or it is finished and its worker died before creating the
--- next one. One whose job is ready or running is sound.
--- @key schedulers zset scheduler id -> time of its pending iteration
--- @derived {prefix}repeat:{id} hash a scheduler
--- @derived {prefix}repeat:{id}:{ms} hash its pending iteration
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg limit int schedulers looked at, those due first
--- @return id, time, '1' if the job is lost or '0' if it is finished, flat fields of each
--- @include clock

local reply = {}
local found = redis.call('ZRANGE', keys.schedulers, 0, limit - 1, 'WITHSCORES')
for i = 1, #found, 2 do
  local slot = integer(tonumber(found[i + 1]))
  local job = redis.call('HMGET', prefix .. 'repeat:' .. found[i] .. ':' .. slot, 'name', 'finishedOn')
  if not job[1] or job[2] then
    local fields = redis.call('HGETALL', prefix .. 'repeat:' .. found[i])
    for _, value in ipairs({ found[i], slot, job[1] and '0' or '1', fields }) do
      reply[#reply + 1] = value
    end
  end
end
return reply
