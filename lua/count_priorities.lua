--- Count the jobs that are ready to run per priority.
--- @key wait        list ids ready to run, without a priority
--- @key prioritized zset ids ready to run, by priority
--- @key pc          string read by the included scores
--- @rows priorities priority:int
--- @return one count per priority, in order
--- @include ready

local counts = {}
for i, row in ipairs(priorities) do
  if row.priority == 0 then
    counts[i] = redis.call('LLEN', keys.wait)
  else
    local first = priority_base(row.priority)
    local last = priority_base(row.priority + 1) - 1
    counts[i] = redis.call('ZCOUNT', keys.prioritized, string.format('%.0f', first), string.format('%.0f', last))
  end
end
return counts
