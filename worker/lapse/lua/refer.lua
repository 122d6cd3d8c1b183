-- @include record
-- Records that a source uses ids of this slot. ARGV[3]: "provider|kind|source", [4...]: target ids.
-- Returns how many targets.

redis.call('HSETNX', key('marks'), 'edges', now)
for i = 4, #ARGV do
  redis.call('HSET', key('referenced'), ARGV[i], now)
  redis.call('ZADD', key('edges'), 0, ARGV[i] .. '|' .. ARGV[3])
end
return #ARGV - 3
