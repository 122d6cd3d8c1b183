-- @include registry/lua/include/record
-- @include registry/lua/include/uses
-- Adds uses to a tracked id and changes nothing else; its edges stand in the slots of their targets already.
-- ARGV[3]: id, [4]: JSON list of edges.
-- Returns ok | unknown; where it is not ok, whoever removes edges in their slots gets these.

local id, edges = ARGV[3], cjson.decode(ARGV[4])
local record = locate(id)
local stored = redis.call('HGET', key('facts'), id)
local kept = stored and cjson.decode(stored) or {}
kept.uses = add(kept.uses or {}, edges)
if not record or record.q then
  take_back(id, edges)
  return 'unknown'
end
if #kept.uses > 20000 then
  take_back(id, edges)
  return redis.error_reply('LAPSE-USES ' .. id .. ' would use more than 20000 others')
end
use_again(id, edges)
redis.call('HSET', key('facts'), id, cjson.encode(kept))
return 'ok'
