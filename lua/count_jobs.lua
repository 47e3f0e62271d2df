--- Count the jobs in every state.
--- @key wait             list ids ready to run
--- @key paused           list ids set aside by old versions
--- @key active           list ids claimed by some worker
--- @key prioritized      zset ids ready to run, by priority
--- @key delayed          zset ids that wait for their time
--- @key waiting_children zset parents that wait for children
--- @key completed        zset finished jobs
--- @key failed           zset finished jobs
--- @return [waiting, set aside, active, prioritized, delayed, waiting-children, completed, failed]

--- BullMQ 4 and older leave a marker at the tail of the list: it is not a job, and it is dropped.
local function count_list(key)
  if string.sub(redis.call('LINDEX', key, -1) or '', 1, 2) == '0:' then
    redis.call('RPOP', key)
  end
  return redis.call('LLEN', key)
end

return {
  count_list(keys.wait),
  count_list(keys.paused),
  redis.call('LLEN', keys.active),
  redis.call('ZCARD', keys.prioritized),
  redis.call('ZCARD', keys.delayed),
  redis.call('ZCARD', keys.waiting_children),
  redis.call('ZCARD', keys.completed),
  redis.call('ZCARD', keys.failed),
}
