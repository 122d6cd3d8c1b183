-- @include record
-- Records that a source uses ids of this slot. ARGV[3]: "provider|kind|source", [4...]: target ids.
-- Whoever is about to remove such an edge, for an earlier life of the source, finds that it may not.
-- Returns how many targets.

redis.call('HSETNX', key('marks'), 'edges', now)
for i = 4, #ARGV do
  local edge = ARGV[i] .. '|' .. ARGV[3]
  redis.call('HSET', key('referenced'), ARGV[i], now)
  redis.call('ZADD', key('edges'), 0, edge)
  redis.call('HDEL', key('leaving'), edge)
end
return #ARGV - 3
