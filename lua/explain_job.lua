--- Say where a job is and what holds it there: its queue, its time, its children.
--- @key completed        zset
--- @key failed           zset
--- @key delayed          zset
--- @key prioritized      zset
--- @key waiting_children zset
--- @key active           list
--- @key wait             list
--- @key paused           list
--- @key meta             hash   settings
--- @key limiter          string jobs started in the current window
--- @derived {prefix}{id} hash the job, and the keys below it
--- @derived {child} hash and its lock, in the child's queue; and that queue's keys
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg now_ms int unix milliseconds; 0 = the server's TIME
--- @arg job_id string
--- @arg limit  int pending children to look at, about
--- @return [now_ms, facts, queue, children]; facts: flat name, value, ... of the job; queue: flat prefix, facts, ... of
--- every queue that was met; children: flat job key, facts, ...
--- @include clock explain

local queues, children = { prefix, explain_queue(keys) }, {}
local seen = { [prefix] = true }
for _, child_key in ipairs(redis.call('SSCAN', prefix .. job_id .. ':dependencies', 0, 'COUNT', limit)[2]) do
  local child_prefix, child_id = split_job_key(child_key)
  local child_keys = derive_keys(child_prefix)
  children[#children + 1] = child_key
  children[#children + 1] = explain_job(child_keys, child_id)
  if not seen[child_prefix] then
    seen[child_prefix] = true
    queues[#queues + 1] = child_prefix
    queues[#queues + 1] = explain_queue(child_keys)
  end
end
return { resolve_now(now_ms), explain_job(keys, job_id), queues, children }
