--- The time a transition happens at, and numbers as text.

--- Milliseconds since the epoch: the caller's clock, or the server's when the caller has none (0).
local function resolve_now(now_ms)
  if now_ms > 0 then
    return now_ms
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

--- Texts made by `integer`, at first the few that most calls need: one costs a third of a small command, and a call
--- repeats the same few numbers.
local integer_texts = { [-1] = '-1', [0] = '0', [1] = '1', [2] = '2', [3] = '3' }
--- Up to here a number with '%d', which costs half of '%.0f', has all of its digits.
local LARGEST_EXACT = 9007199254740992

--- A whole number as text: Lua's own conversion loses digits above 10^14.
local function format_integer(value)
  return string.format(value > -LARGEST_EXACT and value < LARGEST_EXACT and '%d' or '%.0f', value)
end

--- The same for a number that the call is likely to write again.
local function integer(value)
  local text = integer_texts[value]
  if not text then
    text = format_integer(value)
    integer_texts[value] = text
  end
  return text
end
