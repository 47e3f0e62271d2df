--- Locks: the lease a worker holds while it runs a job.
--- @include clock
--- @error -2 LockMissing the lock expired
--- @error -6 LockLost another worker holds it

--- Whoever passes this token works without a lock.
local NO_LOCK = '0'

--- Number of the n-th token of a call (from 1); -1 when its token is used as it is, for a single claim.
local function token_number(first_token, n)
  return first_token < 0 and -1 or first_token + n - 1
end

--- A token by its number.
local function claim_token(token, number)
  return number < 0 and token or token .. ':' .. format_integer(number)
end

--- 0 when `token` holds the lock whose value was read, else the error code.
local function check_lock(lock_value, token)
  if token == NO_LOCK or lock_value == token then
    return 0
  end
  return lock_value and -6 or -2
end
