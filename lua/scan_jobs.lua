--- Read the next page of all jobs of one state, from where the last call ended, while the queue changes.
--- Sorted sets go from the lowest score up, lists from the newest (head) to the oldest: what is added to a list
--- meanwhile and what was removed behind the cursor does not move the rest.
--- @key wait             list ids ready to run
--- @key paused           list ids set aside by old versions
--- @key active           list ids claimed by some worker
--- @key prioritized      zset ids ready to run, by priority
--- @key delayed          zset ids that wait for their time
--- @key waiting_children zset parents that wait for children
--- @key completed        zset finished jobs
--- @key failed           zset finished jobs
--- @derived {prefix}{id} hash the jobs
--- @arg prefix string key prefix of the queue, ends with ':'
--- @arg place  string attribute of one of the keys above
--- @arg anchor string last id of the page before; empty at the start
--- @arg cursor string what the last call returned; of no meaning at the start
--- @arg limit  int    jobs per call
--- @return [cursor, id, fields, ...]; fewer than `limit` jobs: the end
--- @include read_jobs

local is_list = place == 'wait' or place == 'paused' or place == 'active'
local key = keys[place]

--- A set's cursor is the score of its anchor. If the anchor is gone or has moved, the jobs of that score come again.
local function next_of_set()
  local first = 0
  if anchor ~= '' and redis.call('ZSCORE', key, anchor) == cursor then
    first = redis.call('ZRANK', key, anchor) + 1
  elseif anchor ~= '' then
    first = redis.call('ZCOUNT', key, '-inf', '(' .. cursor)
  end
  local page = redis.call('ZRANGE', key, first, first + limit - 1, 'WITHSCORES')
  local job_ids = {}
  for i = 1, #page, 2 do
    job_ids[#job_ids + 1] = page[i]
  end
  return job_ids, page[#page] or cursor
end

--- A list's cursor is the number of ids behind the anchor. What happened at the tail shifts that by as much, so the
--- anchor itself is looked for up to a page around.
local function next_of_list()
  local size = redis.call('LLEN', key)
  local first = 0
  if anchor ~= '' then
    first = math.max(size - tonumber(cursor), 0)
    local lowest = math.max(first - 1 - limit, 0)
    for i, job_id in ipairs(redis.call('LRANGE', key, lowest, first - 1 + limit)) do
      if job_id == anchor then
        first = lowest + i
      end
    end
  end
  local job_ids = redis.call('LRANGE', key, first, first + limit - 1)
  return job_ids, tostring(math.max(size - first - #job_ids, 0))
end

local job_ids, next_cursor
if is_list then
  job_ids, next_cursor = next_of_list()
else
  job_ids, next_cursor = next_of_set()
end
return append_jobs({ next_cursor }, prefix, job_ids)
