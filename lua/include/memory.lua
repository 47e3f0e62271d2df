--- Writing on a server that has reached its maxmemory.

--- The first write of a script decides whether Redis refuses all of it for lack of memory. DEL never is refused, so
--- after this, finished jobs can be settled and stalled ones recovered, and memory given back, on a full server.
local function write_even_when_full(prefix)
  redis.call('DEL', prefix .. 'pyq:none')
end
