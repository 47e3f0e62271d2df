--- The retention rule that the last finished job left to its set.

local KEEP_ALL = { count = -1, age_s = -1, limit = 1000 }

local function number_or(value, default)
  return type(value) == 'number' and value or default
end

--- A job's option as a rule: a number is a count, an object has limits, false and true ask for no trimming.
local function rule_of(option)
  if type(option) == 'number' then
    return { count = option, age_s = -1, limit = KEEP_ALL.limit }
  elseif type(option) ~= 'table' then
    return KEEP_ALL
  end
  return {
    count = number_or(option.count, -1),
    age_s = number_or(option.age, -1),
    limit = number_or(option.limit, KEEP_ALL.limit),
  }
end

--- The rule of the newest job of a set: its own, or else `fallback`, the worker's.
local function newest_rule(keys, set_key, option_name, fallback)
  local job_id = redis.call('ZRANGE', set_key, -1, -1)[1]
  local opts = job_id and redis.pcall('HGET', keys.prefix .. job_id, 'opts')
  local succeeded, options = pcall(cjson.decode, opts)
  if not succeeded or type(options) ~= 'table' or options[option_name] == nil then
    return fallback
  end
  return rule_of(options[option_name])
end
