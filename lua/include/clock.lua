--- The time a transition happens at, and numbers as text.

--- Milliseconds since the epoch: the caller's clock, or the server's when the caller has none (0).
local function resolve_now(now_ms)
  if now_ms > 0 then
    return now_ms
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

--- Texts made by `integer`: one costs a third of a small command, and a call repeats the same few numbers.
local integer_texts = {}

--- A whole number as text: Lua's own conversion loses digits above 10^14.
local function integer(value)
  local text = integer_texts[value]
  if not text then
    text = string.format('%.0f', value)
    integer_texts[value] = text
  end
  return text
end
