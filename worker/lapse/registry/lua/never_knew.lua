-- @include registry/lua/include/record
-- Says whether this registry never knew an id: not tracked, and not forgotten or settled either. ARGV[3]: id.
-- Returns 1 or 0.

local id = ARGV[3]
if locate(id) or redis.call('ZSCORE', key('forgotten'), id) or redis.call('ZSCORE', key('tombstones'), id)
  or redis.call('HEXISTS', key('graves'), id) == 1 then
  return 0
end
return 1
