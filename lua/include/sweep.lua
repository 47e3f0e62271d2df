--- Remove many jobs of one place: what clean, drain and obliterate have in common.
--- @include remove

--- A look into a list or sorted set: up to `limit` ids, the oldest (lowest) first, after the first `offset`.
local function oldest_ids(key, is_list, offset, limit)
  if limit < 1 then
    return {}
  elseif not is_list then
    return redis.call('ZRANGE', key, offset, offset + limit - 1)
  end
  local newest_first = redis.call('LRANGE', key, -(offset + limit), -(offset + 1))
  local ids = {}
  for i = #newest_first, 1, -1 do
    ids[#ids + 1] = newest_first[i]
  end
  return ids
end

--- Take ids out of a place by value: ids that stay may lie between them.
local function take_out(key, is_list, job_ids)
  if #job_ids == 0 then
    return
  end
  if not is_list then
    redis.call('ZREM', key, unpack(job_ids))
    return
  end
  for _, job_id in ipairs(job_ids) do
    redis.call('LREM', key, -1, job_id)
  end
end

--- Look at up to `limit` jobs of a place after the first `offset` and remove those that `is_removable` accepts (nil:
--- all). Returns the removed ids and how many jobs were looked at; fewer than `limit` means that the end is reached.
local function sweep(keys, key, is_list, offset, limit, is_removable)
  local job_ids = oldest_ids(key, is_list, offset, limit)
  local removed = {}
  for _, job_id in ipairs(job_ids) do
    if not is_removable or is_removable(job_id) then
      removed[#removed + 1] = job_id
    end
  end
  take_out(key, is_list, removed)
  for _, job_id in ipairs(removed) do
    remove_job(keys, job_id, true, true)
  end
  return removed, #job_ids
end
