--- Keys of the first children of a job, kind by kind.

--- Every second value: the fields of a hash without their values.
local function page_of_hash(key, limit)
  local step = redis.call('HSCAN', key, 0, 'COUNT', limit)
  local page = { step[1] }
  for i = 1, #step[2], 2 do
    page[#page + 1] = step[2][i]
  end
  return page
end

local function page_of_set(key, limit)
  local step = redis.call('SSCAN', key, 0, 'COUNT', limit)
  return { step[1], unpack(step[2]) }
end

local function page_of_sorted_set(key, limit)
  local members = redis.call('ZRANGE', key, 0, limit - 1)
  return { #members < limit and '0' or tostring(limit), unpack(members) }
end

--- Append to a reply a page per kind (processed, unprocessed, failed, ignored): cursor, job key ...; cursor 0: all.
local function append_child_pages(reply, job_key, limit)
  reply[#reply + 1] = page_of_hash(job_key .. ':processed', limit)
  reply[#reply + 1] = page_of_set(job_key .. ':dependencies', limit)
  reply[#reply + 1] = page_of_sorted_set(job_key .. ':unsuccessful', limit)
  reply[#reply + 1] = page_of_hash(job_key .. ':failed', limit)
end
