--- What most adds are: new jobs that are ready at once, without parent or deduplication, in a queue that is neither paused
--- nor limited in its concurrency.
--- @uses id meta wait prioritized pc marker events

local call, format = redis.call, string.format

-- Jobs come in runs: how many, what they share as JSON, and the data of each.
local count, runs, given_keys, any_priority, row = 0, {}, {}, false, first_row
while row < #ARGV do
  local shared, length = cjson.decode(ARGV[row + 1]), ARGV[row] + 0
  local job_id, timestamp_ms, delay_ms, priority = shared[3] or '', shared[4] or 0, shared[5] or 0, shared[6] or 0
  if #shared > 6 or timestamp_ms > 0 or delay_ms > 0 then
    return
  end
  if job_id ~= '' then
    local job_key = prefix .. job_id
    if length > 1 or given_keys[job_key] or not string.find(job_id, '%D') then
      return
    end
    given_keys[#given_keys + 1], given_keys[job_key] = job_key, true
  end
  any_priority = any_priority or priority > 0
  runs[row] = { length = length, name = shared[1] or '', opts = shared[2] or '', job_id = job_id, priority = priority }
  count, row = count + length, row + 2 + length
end
local meta = call('HMGET', keys.meta, 'paused', 'concurrency', 'opts.maxLenEvents')
if count == 0 or meta[1] or meta[2] or not string.find(meta[3] or '', '^%d+$') then
  return
end

-- See include exchange.
local record_key, number = prefix .. 'pyq:x:' .. sender, math.abs(sequence)
local record = number > 0 and call('GET', record_key)
if record and string.match(record, '"s":(%d+)') + 0 >= number then
  return
elseif sequence < 0 then
  local before = call('GET', prefix .. 'pyq:x:' .. (string.match(sender, '^(.*)%.1$') or sender .. '.1'))
  if not before or string.match(before, '"s":(%d+)') + 0 < number - 1 then
    return
  end
end
if #given_keys > 0 and call('EXISTS', unpack(given_keys)) > 0 then
  return
end
if any_priority then
  call('ZCARD', keys.prioritized) -- fails where it was overwritten by something else
end
local now = now_ms
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local first = call('INCRBY', keys.id, format('%d', count)) - count + 1
local now_text, job_ids = format('%.0f', now), {}

local function write_jobs()
  local names, back, front, at = {}, {}, {}, first_row
  while at < #ARGV do
    local run = runs[at]
    local priority_text = run.priority == 0 and '0' or format('%d', run.priority)
    for i = at + 2, at + 1 + run.length do
      local n = #job_ids + 1
      local job_id = run.job_id ~= '' and run.job_id or format('%.0f', first + n - 1)
      call('HSET', prefix .. job_id, 'name', run.name, 'data', ARGV[i], 'opts', run.opts, 'timestamp', now_text,
        'delay', '0', 'priority', priority_text)
      names[n], job_ids[n] = run.name, job_id
      if run.priority == 0 then
        back[#back + 1] = job_id
      else
        front[#front + 1], front[#front + 2] = run.priority, job_id
      end
    end
    at = at + 2 + run.length
  end
  call('XADD', keys.events, 'MAXLEN', '~', meta[3], '*', 'event', 'added', 'jobId', job_ids[1], 'name', names[1])
  if #front > 0 then -- scores: see include ready
    local drawn = call('INCRBY', keys.pc, format('%d', #front / 2)) - #front / 2
    for i = 1, #front, 2 do
      front[i] = format('%.0f', front[i] * 4294967296 + (drawn + (i + 1) / 2) % 4294967296)
    end
  end
  if #back > 0 then
    call('LPUSH', keys.wait, unpack(back))
  end
  if #front > 0 then
    call('ZADD', keys.prioritized, unpack(front))
  end
  for n, job_id in ipairs(job_ids) do
    if n > 1 then
      call('XADD', keys.events, '*', 'event', 'added', 'jobId', job_id, 'name', names[n])
    end
    call('XADD', keys.events, '*', 'event', 'waiting', 'jobId', job_id)
  end
end

-- What may fail comes first in it. The general code tells which key was overwritten by something else.
if not pcall(write_jobs) then
  for _, job_id in ipairs(job_ids) do
    call('DEL', prefix .. job_id)
  end
  call('INCRBY', keys.id, format('%d', -count))
  return
end
local marked = redis.pcall('ZADD', keys.marker, '0', '0')
if type(marked) == 'table' then
  return marked -- too late for the general code
end
if number > 0 then
  local ids_text = '"' .. job_ids[1] .. '"'
  if #given_keys > 0 then
    local is_plain = not string.find(table.concat(job_ids), '[%c"\\]')
    ids_text = is_plain and '["' .. table.concat(job_ids, '","') .. '"]' or cjson.encode(job_ids)
  end
  call('SET', record_key, format('{"s":%.0f,"i":', number) .. ids_text .. format(',"c":%d}', count), 'PX', '600000')
end
return { now, #given_keys > 0 and job_ids or first, count }
