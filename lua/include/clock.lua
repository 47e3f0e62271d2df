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
--- Up to here, on every machine, '%d' does what '%.0f' does, for half the cost.
local LARGEST_INT = 2147483647

--- A whole number as text: Lua's own conversion loses digits above 10^14.
local function format_integer(value)
  local is_int = value > -LARGEST_INT and value < LARGEST_INT and value % 1 == 0
  return string.format(is_int and '%d' or '%.0f', value)
end

--- The same for a number that the call is likely to write again.
local function integer(value)
  local text = integer_texts[value]
  if not text then
    text = format_integer(value)
    if value ~= value then
      return '0' -- no number, from a field that another client wrote
    end
    integer_texts[value] = text
  end
  return text
end
