--- The time a transition happens at.

--- Milliseconds since the epoch: the caller's clock, or the server's when the caller has none (0).
local function resolve_now(now_ms)
  if now_ms > 0 then
    return now_ms
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

--- A whole number as text: Lua's own conversion loses digits above 10^14.
local function integer(value)
  return string.format('%.0f', value)
end
