--- Extend the locks of running jobs, and of those that an unanswered exchange has claimed: a worker whose event loop is
--- blocked does not know them yet.
--- @key stalled set ids without a sign of life
--- @derived {prefix}{id}:lock string token; expires
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg lock_ms digits how long the locks last from now
--- @arg sender string uuid of the worker
--- @arg sequence int number of its exchange that has not been answered; 0 = there is none
--- @arg token string what the tokens of that exchange begin with
--- @rows locks id token
--- @return ids whose lock is gone or held by another
--- @include locks exchange

local record = recall_exchange(prefix, sender, sequence)
if record then
  for n, job_id in ipairs(record.j) do
    locks[#locks + 1] = { id = job_id, token = claim_token(token, token_number(record.t, n)) }
  end
end
local lock_keys, lost, extended = {}, {}, {}
for i, lock in ipairs(locks) do
  lock_keys[i] = prefix .. lock.id .. ':lock'
end
if #lock_keys == 0 then
  return lost
end
local held = redis.call('MGET', unpack(lock_keys))
for i, lock in ipairs(locks) do
  if held[i] == lock.token then
    redis.call('PEXPIRE', lock_keys[i], lock_ms)
    extended[#extended + 1] = lock.id
  else
    lost[#lost + 1] = lock.id
  end
end
if #extended > 0 then
  redis.call('SREM', keys.stalled, unpack(extended))
end
return lost
