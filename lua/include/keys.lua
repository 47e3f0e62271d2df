--- Key names computed inside scripts: another queue's keys, and the parts of a job key.

--- Tables made by `derive_keys`: the children of one call mostly have the same few parents.
local derived = {}

--- The keys table of another queue with the same hash tag (parents and children of flows).
local function derive_keys(prefix)
  derived[prefix] = derived[prefix] or {
    prefix = prefix,
    id = prefix .. 'id',
    meta = prefix .. 'meta',
    wait = prefix .. 'wait',
    paused = prefix .. 'paused',
    active = prefix .. 'active',
    prioritized = prefix .. 'prioritized',
    pc = prefix .. 'pc',
    delayed = prefix .. 'delayed',
    waiting_children = prefix .. 'waiting-children',
    completed = prefix .. 'completed',
    failed = prefix .. 'failed',
    marker = prefix .. 'marker',
    events = prefix .. 'events',
    schedulers = prefix .. 'repeat',
    limiter = prefix .. 'limiter',
  }
  return derived[prefix]
end

--- Prefix (with its colon) and id of a job key: ids of flow jobs hold no colon, so the last one separates.
local function split_job_key(job_key)
  return string.match(job_key, '^(.*:)([^:]*)$')
end

--- Delete a job's hash and everything below it except its lock; returns how many keys existed. Redis frees the memory
--- of large ones in the background: a parent may have had thousands of children.
local function delete_job_keys(job_key)
  return redis.call('UNLINK', job_key, job_key .. ':logs', job_key .. ':dependencies', job_key .. ':processed',
    job_key .. ':failed', job_key .. ':unsuccessful')
end
