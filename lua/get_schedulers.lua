--- Read job schedulers: one by its id, or a range by the time of their next jobs. Ids without a record are dropped.
--- @key schedulers zset scheduler id -> time of its pending iteration
--- @derived {prefix}repeat:{id} hash a scheduler
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg scheduler_id string '' = a range
--- @arg first int of the range
--- @arg last int of the range; -1 = the end
--- @arg soonest_first int 1 = the soonest first
--- @return id, time, flat fields of each
--- @include legacy

local found
if scheduler_id ~= '' then
  found = { scheduler_id, redis.call('ZSCORE', keys.schedulers, scheduler_id) or '' }
else
  found = redis.call(soonest_first == 1 and 'ZRANGE' or 'ZREVRANGE', keys.schedulers, first, last, 'WITHSCORES')
end
local reply = {}
for i = 1, #found, 2 do
  local fields = redis.call('HGETALL', prefix .. 'repeat:' .. found[i])
  if #fields > 0 then
    for _, value in ipairs({ found[i], tostring(found[i + 1]), fields }) do
      reply[#reply + 1] = value
    end
  elseif not is_legacy(found[i]) then
    redis.call('ZREM', keys.schedulers, found[i])
  end
end
return reply
