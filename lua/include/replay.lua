--- An exchange that was applied already: the same codes, and the claimed jobs as they are now.
--- @include locks exchange groups

--- Jobs whose lock ran out since then belong to others and are left out; the locks of the rest start anew.
--- `next_delayed` is now: the sender should ask again at once.
local function replay_exchange(keys, record, worker, now)
  local claimed = {}
  for n, job_id in ipairs(record.j) do
    local job_key = keys.prefix .. job_id
    local number = token_number(record.t, n)
    local token = claim_token(worker.token, number)
    if token == redis.call('GET', job_key .. ':lock') then
      redis.call('PEXPIRE', job_key .. ':lock', worker.lock_ms) -- never refused, as SET may be on a full server
      local fields = redis.call('HGETALL', job_key)
      claimed[#claimed + 1] = { id = job_id, number = number, fields = fields, is_changed = true }
    end
  end
  return append_jobs({ now, record.c, now, 0, #claimed, 1 }, claimed)
end
