--- Settings of a queue, read once per call, and whether they hold back its jobs.
--- @uses meta active

--- Upstream's cap of the event stream where nobody set one.
local DEFAULT_MAX_EVENTS = '10000'

--- {paused, concurrency, max, duration, max_events}; concurrency, max and duration are nil when unset, max_events
--- is a text.
local function read_meta(keys)
  local values = redis.call('HMGET', keys.meta, 'paused', 'concurrency', 'max', 'duration', 'opts.maxLenEvents')
  return {
    paused = values[1] and true or false,
    concurrency = tonumber(values[2] or nil),
    max = tonumber(values[3] or nil),
    duration = tonumber(values[4] or nil),
    max_events = values[5] and string.match(values[5], '^%d+$'),
  }
end

--- How many events the stream keeps; stores the default where the queue has none.
local function max_events(keys, meta)
  if not meta.max_events then
    meta.max_events = DEFAULT_MAX_EVENTS
    redis.call('HSET', keys.meta, 'opts.maxLenEvents', DEFAULT_MAX_EVENTS)
  end
  return meta.max_events
end

--- Whether no job may start now: the queue is paused or its global concurrency is used up.
local function is_blocked(keys, meta)
  if meta.paused then
    return true
  end
  return meta.concurrency ~= nil and redis.call('LLEN', keys.active) >= meta.concurrency
end
