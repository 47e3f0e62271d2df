--- Read one of the two series of finished jobs per minute.
--- @key metrics_completed      hash counts
--- @key metrics_completed_data list counts per minute, newest first
--- @key metrics_failed         hash counts
--- @key metrics_failed_data    list counts per minute, newest first
--- @arg state string completed | failed
--- @arg first int    index as in LRANGE
--- @arg last  int    index as in LRANGE, inclusive
--- @return [count, time of the last point, count at that time, number of points, point ...]

local hash_key, list_key = keys['metrics_' .. state], keys['metrics_' .. state .. '_data']
local totals = redis.call('HMGET', hash_key, 'count', 'prevTS', 'prevCount')
return {
  totals[1] or '0', totals[2] or '0', totals[3] or '0', redis.call('LLEN', list_key),
  unpack(redis.call('LRANGE', list_key, first, last)),
}
