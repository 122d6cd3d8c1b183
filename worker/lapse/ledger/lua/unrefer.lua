-- @include registry/lua/include/full
-- @include registry/lua/include/edges
-- Removes an edge, unless its source named it again since leave.lua; a target that nothing uses any more comes back.
-- ARGV[3]: "provider|kind|source", [4]: target id, [5]: who said that it is about to be removed.
-- Returns 1, or the policy of a target that came back; 0: the edge stays.

local id, edge = ARGV[4], ARGV[4] .. '|' .. ARGV[3]
if redis.call('HGET', key('leaving'), edge) ~= ARGV[5] then return 0 end
redis.call('HDEL', key('leaving'), edge)
redis.call('ZREM', key('edges'), edge)
local record = aside(id)
if record and record.s == 'parked' and record.r == 'referenced' then
  -- What uses it still may be a circle with it alone: it is looked at as one that was parked just now.
  if not referenced(id) then
    unpark(id, record)
    return record.p
  end
  set_aside(id, record, 'parked', now)
end
return 1
