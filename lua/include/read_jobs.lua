--- Read jobs with their fields.

--- Append id and fields of each job to a reply: flat field, value, ... (empty for an id without a hash).
local function append_jobs(reply, prefix, job_ids)
  for _, job_id in ipairs(job_ids) do
    reply[#reply + 1] = job_id
    reply[#reply + 1] = redis.call('HGETALL', prefix .. job_id)
  end
  return reply
end
