--- Remove jobs of a large family one by one, whose root is gone already. What a worker has locked meanwhile stays.
--- Transition: any state -> removed.
--- @key completed        zset   finished jobs
--- @key failed           zset   finished jobs
--- @key delayed          zset   ids that wait for their time
--- @key prioritized      zset   ids ready to run, by priority
--- @key waiting_children zset   parents that wait for children
--- @key wait             list   ids ready to run
--- @key paused           list   ids set aside by old versions
--- @key active           list   ids claimed by some worker
--- @key events           stream event stream
--- @key meta             hash   settings
--- @key marker           zset   wakes idle workers
--- @key pc               string priority counter
--- @derived {member} hash and the keys below it, in the queue of the member; and that queue's keys
--- @rows members job_key
--- @return how many were removed
--- @include family

local walk = new_walk(no_children)
for _, member in ipairs(members) do
  if redis.call('EXISTS', member.job_key .. ':lock') == 0 then
    local member_prefix, member_id = split_job_key(member.job_key)
    remove_family(derive_keys(member_prefix), member_id, walk)
  end
end
end_walk(walk)
return walk.removed
