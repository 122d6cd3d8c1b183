-- @include registry/lua/include/record
-- What a hold says. Half of a character, which clients took before, is no JSON to cjson: it must hide no other record.
local function hold_of(id)
  local stored = redis.call('HGET', key('holds'), id)
  if not stored then return nil end
  local readable, hold = pcall(cjson.decode, stored)
  if not readable then readable, hold = pcall(cjson.decode, (string.gsub(stored, '\\u[dD][89a-fA-F]%x%x', '\\ufffd'))) end
  return readable and hold or { reason = 'cannot be read', actor = '', since = 0 }
end
