--- Tell in which state a job is.
--- @key completed        zset finished jobs
--- @key failed           zset finished jobs
--- @key delayed          zset ids that wait for their time
--- @key prioritized      zset ids ready to run, by priority
--- @key active           list ids claimed by some worker
--- @key wait             list ids ready to run
--- @key paused           list ids set aside by old versions
--- @key waiting_children zset parents that wait for children
--- @derived {prefix}{id} hash the job
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg job_id string
--- @return name of the state; unknown when the job is nowhere
--- @include states

local place = find_place(keys, job_id)
return (place == 'wait' or place == 'paused') and 'waiting' or place
