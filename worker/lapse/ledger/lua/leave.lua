-- @include registry/lua/include/full
-- @include registry/lua/include/slot
-- Says that an edge is about to be removed; it protects its target until it is, and naming it again prevents that.
-- ARGV[3]: "provider|kind|source", [4]: target id, [5]: who is about to, the same to unrefer.lua. Returns 1.

redis.call('HSET', key('leaving'), ARGV[4] .. '|' .. ARGV[3], ARGV[5])
return 1
