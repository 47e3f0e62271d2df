--- The event stream.
--- @include meta
--- @uses events

--- Stream that the next event caps, and the settings of its queue.
local stream_to_cap, meta_of_stream

--- Cap the stream with the next event of this call, if there is one; approximately: whole nodes.
local function cap_with_next_event(keys, meta)
  stream_to_cap, meta_of_stream = keys.events, meta
end

--- Append one event; the rest are field, value, ...
local function emit(keys, event, ...)
  if keys.events == stream_to_cap then
    stream_to_cap = nil
    redis.call('XADD', keys.events, 'MAXLEN', '~', max_events(keys, meta_of_stream), '*', 'event', event, ...)
  else
    redis.call('XADD', keys.events, '*', 'event', event, ...)
  end
end

--- Cap the stream after the events of this call.
local function trim_events(keys, meta)
  redis.call('XTRIM', keys.events, 'MAXLEN', '~', max_events(keys, meta))
end
