--- Exchange records: what the last call of a sender did, so that a call whose reply was lost can be sent again.
--- @derived {prefix}pyq:x:{sender} string JSON {s: sequence, ...}; expires
--- @error -20 StaleExchange a newer call of the same sender was applied already

local STALE_EXCHANGE = -20

local function record_key(prefix, sender)
  return prefix .. 'pyq:x:' .. sender
end

--- Nothing when the call is new; its record when it was applied already; a code when it is older than the last one.
--- Sequence 0 keeps no record.
local function recall_exchange(prefix, sender, sequence)
  if sequence == 0 then
    return nil, 0
  end
  local text = redis.call('GET', record_key(prefix, sender)) or ''
  local last = tonumber(string.match(text, '"s":(%d+)')) or 0 -- in nearly every call there is no need to decode more
  if last > sequence then
    return nil, STALE_EXCHANGE
  end
  return last == sequence and cjson.decode(text) or nil, 0
end

--- Remember what this call did, in the place of the call before it.
local function record_exchange(prefix, sender, sequence, ttl_ms, record)
  if sequence > 0 then
    record.s = sequence
    redis.call('SET', record_key(prefix, sender), cjson.encode(record), 'PX', ttl_ms)
  end
end
