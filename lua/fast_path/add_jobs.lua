--- What most adds are: new jobs that are ready at once, with generated ids, without priority, parent or deduplication, in
--- a queue that is neither paused nor limited in its concurrency.
--- @uses id meta wait marker events
--- @event added waiting

local call, format = redis.call, string.format

-- Jobs come in runs: their number, name and options as JSON, and the data of each.
local count, shared, row = 0, {}, first_row
while row < #ARGV do
  local fields = cjson.decode(ARGV[row + 1])
  if #fields > 2 then
    return
  end
  count, shared[row], row = count + ARGV[row], fields, row + 2 + ARGV[row]
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
local now = now_ms
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local first = call('INCRBY', keys.id, format('%d', count)) - count + 1
local now_text, job_ids, job_keys = format('%.0f', now), {}, {}

local function write_jobs()
  local n, left, name, opts, at = 0, 0, nil, nil, first_row
  while at <= #ARGV do
    if left == 0 then
      left, name, opts, at = ARGV[at] + 0, shared[at][1] or '', shared[at][2] or '', at + 2
    end
    n, left = n + 1, left - 1
    local job_id = format('%.0f', first + n - 1)
    local job_key = prefix .. job_id
    call('HSET', job_key, 'name', name, 'data', ARGV[at], 'opts', opts, 'timestamp', now_text, 'delay', '0', 'priority', '0')
    job_ids[n], job_keys[n] = job_id, job_key
    if n == 1 then
      call('XADD', keys.events, 'MAXLEN', '~', meta[3], '*', 'event', 'added', 'jobId', job_id, 'name', name)
    else
      call('XADD', keys.events, '*', 'event', 'added', 'jobId', job_id, 'name', name)
    end
    call('XADD', keys.events, '*', 'event', 'waiting', 'jobId', job_id)
    at = at + 1
  end
  call('LPUSH', keys.wait, unpack(job_ids))
end

if not pcall(write_jobs) then -- something else has overwritten a key: the general code tells which job that concerns
  if #job_keys > 0 then
    call('DEL', unpack(job_keys))
  end
  call('DECRBY', keys.id, format('%d', count))
  return
end
local marked = redis.pcall('ZADD', keys.marker, '0', '0')
if type(marked) == 'table' then
  return marked -- too late for the general code
end
if number > 0 then
  call('SET', record_key, format('{"s":%.0f,"i":"%s","c":%d}', number, job_ids[1], count), 'PX', '600000')
end
return { now, first, count }
