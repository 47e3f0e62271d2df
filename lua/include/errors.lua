--- Errors of single jobs inside a batch.

--- Text of a caught error: a table on Redis 7, a string on Redis 6, an exception object elsewhere.
local function error_text(caught)
  if type(caught) == 'table' then
    return tostring(caught.err)
  end
  return tostring(caught)
end
