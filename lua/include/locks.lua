--- Locks: the lease a worker holds while it runs a job.
--- @error -2 LockMissing the lock expired
--- @error -6 LockLost another worker holds it

--- Whoever passes this token works without a lock.
local NO_LOCK = '0'

--- 0 when `token` holds the lock whose value was read, else the error code.
local function check_lock(lock_value, token)
  if token == NO_LOCK or lock_value == token then
    return 0
  end
  return lock_value and -6 or -2
end
