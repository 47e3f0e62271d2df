--- Repeatable jobs of BullMQ before version 5, which were no schedulers yet.

--- Whether an id looks like those of BullMQ's old repeatable jobs: name:id:end:tz:pattern or interval.
local function is_legacy(scheduler_id)
  local parts = {}
  for part in string.gmatch(scheduler_id .. ':', '([^:]*):') do
    parts[#parts + 1] = part
  end
  local rule = parts[#parts]
  return #parts >= 5 and string.match(parts[3], '^%d*$') ~= nil
    and (string.match(rule, '^%d+$') ~= nil or string.find(rule, ' ', 1, true) ~= nil)
end
