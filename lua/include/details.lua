--- What an outcome needs besides its value, in one text: most outcomes have the same, and many need none.

--- Details of a completed job that is kept.
local KEPT = { number = 0, attempts = 0, keep_count = -1, keep_age_s = -1, keep_limit = 1000, stacktrace = '' }
--- Tables made by `read_details`, by text.
local read_before

--- number: milliseconds of a delay or a limit; attempts: how many the job may make; keep_count, keep_age_s, keep_limit:
--- its retention; stacktrace: '' = none.
local function read_details(text)
  if text == '' then
    return KEPT
  end
  read_before = read_before or {}
  local details = read_before[text]
  if not details then
    local number, attempts, count, age_s, limit, stacktrace = string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
    details = {
      number = tonumber(number), attempts = tonumber(attempts), keep_count = tonumber(count),
      keep_age_s = tonumber(age_s), keep_limit = tonumber(limit), stacktrace = stacktrace,
    }
    read_before[text] = details
  end
  return details
end
