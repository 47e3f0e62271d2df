--- Exchange records: what the last call of a sender did, so that a call whose reply was lost can be sent again.
--- @include clock
--- @derived {prefix}pyq:x:{sender} string JSON {s: sequence, ...}; expires
--- @error -20 StaleExchange a newer call of the same sender was applied already
--- @error -22 OutOfTurn the call that this one follows was not applied

local STALE_EXCHANGE, OUT_OF_TURN = -20, -22
--- How long a record lives: a sender does not send a call again after that.
local RECORD_MS = '600000'

local function record_key(prefix, sender)
  return prefix .. 'pyq:x:' .. sender
end

--- Codes for a record and a reply: their number where all are 0, because a number costs more to encode than all else
--- about it.
local function shorten(codes)
  for _, code in ipairs(codes) do
    if code ~= 0 then
      return codes
    end
  end
  return #codes
end

--- The record of a sender, as text, and the number of the call that it is about; 0 = there is none.
local function read_record(prefix, sender)
  local text = redis.call('GET', record_key(prefix, sender)) or ''
  return text, (string.match(text, '"s":(%d+)') or 0) + 0 -- in nearly every call there is no need to decode more
end

--- Nothing when the call is new; its record when it was applied already; a code when it is older than the last one.
--- Sequence 0 keeps no record.
local function recall_exchange(prefix, sender, sequence)
  if sequence == 0 then
    return nil, 0
  end
  local text, last = read_record(prefix, sender)
  if last > sequence then
    return nil, STALE_EXCHANGE
  end
  if last < sequence then
    return nil, 0
  end
  return cjson.decode(text), 0
end

--- Whether the call before this one was applied. It has the other record of the sender: odd numbers have `.1` behind.
local function is_next(prefix, sender, sequence)
  local _, last = read_record(prefix, string.match(sender, '^(.*)%.1$') or sender .. '.1')
  return last >= sequence - 1
end

--- Member of a record: ids. They hardly ever hold what JSON escapes, and to encode two numbers and a list costs more
--- than a command.
local function ids_text(name, job_ids)
  local text = '[]'
  if string.find(table.concat(job_ids, ' '), '[%c"\\]') then
    text = cjson.encode(job_ids)
  elseif #job_ids > 0 then
    text = '["' .. table.concat(job_ids, '","') .. '"]'
  end
  return ',"' .. name .. '":' .. text
end

--- Member of a record: a code per row, shortened.
local function codes_text(codes)
  return ',"c":' .. (type(codes) == 'number' and integer(codes) or cjson.encode(codes))
end

--- Remember what this call did, in the place of the call before it. members: what belongs into its record.
local function record_exchange(prefix, sender, sequence, members)
  if sequence > 0 then
    redis.call('SET', record_key(prefix, sender), '{"s":' .. format_integer(sequence) .. members .. '}', 'PX', RECORD_MS)
  end
end
