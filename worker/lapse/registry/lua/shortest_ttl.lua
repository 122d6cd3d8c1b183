-- @include registry/lua/include/slot
-- Returns the shortest ttl, in milliseconds, of the policies that ids of this slot stand under; 0 if none is known.

local shortest = 0
for _, policy in ipairs(redis.call('SMEMBERS', key('policies'))) do
  local ttl = tonumber(redis.call('HGET', part(policy, 'rules'), 'ttl') or nil)
  if ttl and (shortest == 0 or ttl < shortest) then shortest = ttl end
end
return shortest
