--- The event stream.
--- @include meta
--- @uses events

--- Append one event; the rest are field, value, ...
local function emit(keys, event, ...)
  redis.call('XADD', keys.events, '*', 'event', event, ...)
end

--- Cap the stream (approximately: whole nodes). Once per call costs less than a MAXLEN on every entry.
local function trim_events(keys, meta)
  redis.call('XTRIM', keys.events, 'MAXLEN', '~', max_events(keys, meta))
end
