--- Pause a queue: no worker takes another job until it is resumed; running jobs finish.
--- @key meta   hash   settings; the field `paused` is set
--- @key marker zset   deleted, so that idle workers are not woken
--- @key events stream event stream
--- @key active list   read by the included settings
--- @return 1
--- @event paused
--- @include events
redis.call('HSET', keys.meta, 'paused', 1)
redis.call('DEL', keys.marker)
emit(keys, 'paused')
return 1
