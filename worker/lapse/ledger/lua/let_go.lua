-- @include registry/lua/include/full
-- @include registry/lua/include/slot
-- Ends the handing over of a source's edges once they were removed in the slots of their targets.
-- ARGV[3]: source id, [4...]: the edges that were removed. Returns how many are left.

local id = ARGV[3]
local removed, left = {}, {}
for i = 4, #ARGV do removed[ARGV[i]] = true end
for _, edge in ipairs(cjson.decode(redis.call('HGET', key('released'), id) or '[]')) do
  if not removed[edge] then left[#left + 1] = edge end
end
if #left > 0 then redis.call('HSET', key('released'), id, cjson.encode(left)) else redis.call('HDEL', key('released'), id) end
return #left
