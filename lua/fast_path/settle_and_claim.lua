--- What most exchanges are: jobs that complete and are kept, by number or all, or removed, without children, parents or
--- deduplication, and claims of jobs that never stalled and belong to no scheduler, in a queue without pause and limits.
--- @uses meta wait active prioritized pc delayed completed stalled marker events

local call, try, format = redis.call, redis.pcall, string.format

local function unlink_job(job_key)
  call('UNLINK', job_key, job_key .. ':logs', job_key .. ':dependencies', job_key .. ':processed', job_key .. ':failed',
    job_key .. ':unsuccessful')
end

-- An outcome is five arguments: id, token, kind, value, details. Of jobs that are removed the details begin like that.
local settled, removed = (#ARGV + 1 - first_row) / 5, '0 0 0 '
-- Where the newest ones are kept, all outcomes say how many.
local first_details = settled > 0 and ARGV[first_row + 4] or ''
local most_kept = tonumber(string.match(first_details, '^0 0 (%d+) %-1 ') or '0')
if claim == 0 or first_token < 0 or limiter_max > 0 or metrics_points > 0 or rearm > 0
  or most_kept > 0 and most_kept < settled then -- some of the settled ones would be removed
  return
end
for row = first_row, #ARGV, 5 do
  local details = ARGV[row + 4]
  local is_plain = most_kept == 0 and (details == '' or string.sub(details, 1, #removed) == removed)
  if ARGV[row + 2] ~= 'completed' or not (is_plain or most_kept > 0 and details == first_details) then
    return
  end
end
local meta = call('HMGET', keys.meta, 'paused', 'concurrency', 'max', 'opts.maxLenEvents')
if meta[1] or meta[2] or meta[3] or not string.find(meta[4] or '', '^%d+$') then
  return
end

-- See include exchange.
local record_key = prefix .. 'pyq:x:' .. sender
local record = sequence > 0 and call('GET', record_key)
if record and string.match(record, '"s":(%d+)') + 0 >= sequence then
  return
end
local now = now_ms
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local now_text, due = format('%.0f', now), call('ZRANGE', keys.delayed, '0', '0', 'WITHSCORES')[2]
if due and due / 4096 < now + 1 then
  return
end

-- The settled jobs are the sender's, and concern no others.
local settled_ids, job_keys, lock_keys, child_keys, attempts, kept = {}, {}, {}, {}, {}, {}
for i = 1, settled do
  local job_id, details = ARGV[first_row + 5 * i - 5], ARGV[first_row + 5 * i - 1]
  local job_key = prefix .. job_id
  local facts = call('HMGET', job_key, 'ats', 'atm', 'attemptsMade', 'parentKey', 'deid')
  if not facts[1] or facts[4] or facts[5] then
    return
  end
  attempts[i] = (facts[2] or facts[3] or 0) + 1
  if attempts[i] % 1 ~= 0 or attempts[i] > 2147483647 then
    return -- not written by a worker
  end
  settled_ids[i], job_keys[i], lock_keys[i] = job_id, job_key, job_key .. ':lock'
  child_keys[i * 2 - 1], child_keys[i * 2] = job_key .. ':dependencies', job_key .. ':unsuccessful'
  if details == '' or most_kept > 0 then
    kept[#kept + 1], kept[#kept + 2] = now_text, job_id
  end
end
local old_ids, is_old = {}, {}
if most_kept > 0 then
  for _, job_id in ipairs(settled_ids) do
    if try('ZSCORE', keys.completed, job_id) then
      return -- it was completed before; or the key was overwritten by something else
    end
  end
  -- As REMOVALS_PER_CALL in include retention.
  local surplus = math.min(call('ZCARD', keys.completed) + settled - most_kept, 32)
  local oldest = surplus > 0 and call('ZRANGE', keys.completed, '0', format('%d', surplus - 1), 'WITHSCORES') or {}
  if #oldest < 2 * surplus or surplus > 0 and oldest[#oldest] + 0 >= now then
    return -- no set of jobs that all are older
  end
  for i = 1, #oldest, 2 do
    old_ids[#old_ids + 1], is_old[oldest[i]] = oldest[i], true
    if try('HGET', prefix .. oldest[i], 'parentKey') then -- or an error
      return
    end
  end
end
if settled > 0 then
  for i, token_held in ipairs(call('MGET', unpack(lock_keys))) do
    if token_held ~= ARGV[first_row + 5 * i - 4] then
      return
    end
  end
  if call('EXISTS', unpack(child_keys)) > 0 then
    return
  end
end

-- The next jobs, as they are served: those that wait, whose list has the newest first; then by priority.
local claimed_ids, waiting, prioritized = {}, call('LRANGE', keys.wait, format('%d', -claim), '-1'), {}
for i = #waiting, 1, -1 do
  claimed_ids[#claimed_ids + 1] = waiting[i]
end
if #waiting < claim then
  prioritized = call('ZRANGE', keys.prioritized, '0', format('%d', claim - #waiting - 1))
  for _, job_id in ipairs(prioritized) do
    claimed_ids[#claimed_ids + 1] = job_id
  end
end
local claimed = #claimed_ids

-- They are read into groups with the same names of fields, see include groups. A job that has run before is a group of its
-- own: what its start writes is read with it.
local reply, starts = { now, settled, 0, 0, 0, 0 }, {}
local named, width, values, size, filled = nil, 0, nil, 0, 0 -- fields that the next job has, too, if it joins the group
for n, job_id in ipairs(claimed_ids) do
  local fields, same = try('HGETALL', prefix .. job_id), 1
  if #fields == 0 or is_old[job_id] or string.sub(job_id, 1, 2) == '0:' then
    return
  end
  while same < width and fields[same] == named[same] do
    same = same + 2
  end
  if #fields ~= width or same < width then
    local names, runs, last = {}, nil, #reply
    for i = 1, #fields, 2 do
      local name = fields[i]
      if name == 'stc' or name == 'defa' or name == 'rjk' or string.find(name, '\0', 1, true) then
        return
      elseif name == 'ats' then
        runs = tonumber(fields[i + 1]) or 0
      elseif name == 'processedOn' or name == 'pb' then
        runs = runs or 0
      end
      names[#names + 1] = name
    end
    named, width = fields, #fields
    if runs and (runs % 1 ~= 0 or runs > 2147483646) then
      return
    elseif runs then
      starts[n], width = format('%d', runs + 1), 0
      local written = { processedOn = now_text, ats = starts[n], pb = worker_name ~= '' and worker_name or nil }
      for i, name in ipairs(names) do
        fields[2 * i], written[name] = written[name] or fields[2 * i], nil
      end
      for _, name in ipairs({ 'processedOn', 'ats', 'pb' }) do
        if written[name] then
          names[#names + 1] = name
          fields[2 * #names] = written[name]
        end
      end
    end
    values, size, filled = {}, 2 * #names, 0
    reply[last + 1], reply[last + 2] = table.concat(names, '\0'), first_token + n - 1
    reply[last + 3], reply[last + 4] = runs and 0 or 1, values
  end
  filled = filled + 1
  values[filled] = job_id
  for i = 2, size, 2 do
    filled = filled + 1
    values[filled] = fields[i]
  end
end

if settled > 0 then
  -- They leave active: all at once where they are its oldest, as mostly they are.
  local oldest, left = settled > 1 and call('LRANGE', keys.active, format('%d', -settled), '-1') or {}, 0
  while left < #oldest and oldest[settled - left] == settled_ids[left + 1] do
    left = left + 1
  end
  if left == settled then
    call('LTRIM', keys.active, '0', format('%d', -settled - 1))
  else
    left = 0
    while left < settled and call('LREM', keys.active, '-1', settled_ids[left + 1]) > 0 do
      left = left + 1
    end
  end
  -- If one was not there, or something else has overwritten a key, all go back.
  local is_kept = left == settled and (#kept == 0 or type(try('ZADD', keys.completed, unpack(kept))) == 'number')
  if not is_kept or type(try('XADD', keys.events, 'MAXLEN', '~', meta[4], '*', 'event', 'completed', 'jobId',
    settled_ids[1], 'returnvalue', ARGV[first_row + 3], 'prev', 'active')) ~= 'string' then
    for i = left, 1, -1 do
      call('RPUSH', keys.active, settled_ids[i])
      try('ZREM', keys.completed, settled_ids[i])
    end
    return
  end
  for i, job_key in ipairs(job_keys) do
    local value, details = ARGV[first_row + 5 * i - 2], ARGV[first_row + 5 * i - 1]
    if details == '' or most_kept > 0 then
      call('HSET', job_key, 'returnvalue', value, 'finishedOn', now_text, 'atm', format('%d', attempts[i]))
    else
      unlink_job(job_key)
    end
    if i > 1 then
      call('XADD', keys.events, '*', 'event', 'completed', 'jobId', settled_ids[i], 'returnvalue', value, 'prev', 'active')
    end
  end
  if #old_ids > 0 then
    for _, job_id in ipairs(old_ids) do
      unlink_job(prefix .. job_id)
    end
    call('ZREM', keys.completed, unpack(old_ids))
  end
  call('DEL', unpack(lock_keys))
  try('SREM', keys.stalled, unpack(settled_ids))
end

-- The claimed jobs start. First comes what may fail, while they are in their places.
if claimed > 0 then
  call('XADD', keys.events, '*', 'event', 'active', 'jobId', claimed_ids[1], 'prev', 'waiting')
  local marked = try('ZADD', keys.marker, '0', '0')
  if type(marked) == 'table' then
    return marked -- too late for the general code
  end
end
if #waiting == 1 and claimed == 1 then
  call('RPOPLPUSH', keys.wait, keys.active)
elseif claimed > 0 then
  call('LPUSH', keys.active, unpack(claimed_ids))
  if #waiting > 0 then
    call('LTRIM', keys.wait, '0', format('%d', -#waiting - 1))
  end
end
if #prioritized > 0 then
  call('ZREMRANGEBYRANK', keys.prioritized, '0', format('%d', #prioritized - 1))
end
for n, job_id in ipairs(claimed_ids) do
  local job_key = prefix .. job_id
  if n > 1 then
    call('XADD', keys.events, '*', 'event', 'active', 'jobId', job_id, 'prev', 'waiting')
  end
  call('SET', job_key .. ':lock', token .. ':' .. format('%.0f', first_token + n - 1), 'PX', lock_ms)
  if worker_name == '' then
    call('HSET', job_key, 'processedOn', now_text, 'ats', starts[n] or '1')
  else
    call('HSET', job_key, 'processedOn', now_text, 'ats', starts[n] or '1', 'pb', worker_name)
  end
end
if claimed < claim then
  call('DEL', keys.pc)
  if due then
    reply[3] = math.floor(due / 4096)
  elseif settled > 0 and claimed == 0 and call('LLEN', keys.active) == 0 then
    call('XADD', keys.events, '*', 'event', 'drained')
  end
end

if sequence > 0 then
  local is_plain = not string.find(table.concat(claimed_ids), '[%c"\\]')
  local ids_text = is_plain and '["' .. table.concat(claimed_ids, '","') .. '"]' or cjson.encode(claimed_ids)
  if claimed == 0 then
    ids_text = '[]'
  end
  local text = format('{"s":%.0f,"c":%d,"t":%.0f,"j":', sequence, settled, first_token)
  call('SET', record_key, text .. ids_text .. '}', 'PX', '600000')
end
return reply
