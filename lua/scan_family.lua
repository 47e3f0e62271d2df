--- Look at members of a large family before it is removed: whether they run, and whose children they have.
--- @key id string names the slot; not touched
--- @derived {member}:lock string a locked job is not removed
--- @derived {member} keys of its children
--- @arg limit int children of each kind that are asked for. Small sets are read as a whole.
--- @rows members job_key
--- @return per member: [1 locked or 0, processed, unprocessed, failed, ignored]; each kind: [cursor, job key ...];
--- cursor 0: these are all
--- @include child_pages

local reply = {}
for i, member in ipairs(members) do
  reply[i] = { redis.call('EXISTS', member.job_key .. ':lock') }
  append_child_pages(reply[i], member.job_key, limit)
end
return reply
