-- @include registry/lua/include/record
-- @include registry/lua/include/uses
-- Adds uses to a tracked id and changes nothing else; its edges stand in the slots of their targets already.
-- ARGV[3]: id, [4]: JSON list of edges.
-- Returns ok | unknown (somebody has to remove the edges).

local id, edges = ARGV[3], cjson.decode(ARGV[4])
local record = locate(id)
local stored = redis.call('HGET', key('facts'), id)
local kept = stored and cjson.decode(stored) or {}
kept.uses = add(kept.uses or {}, edges)
if not record or record.q or #kept.uses > 20000 then
  take_back(id, edges)
  return 'unknown'
end
use_again(id, edges)
redis.call('HSET', key('facts'), id, cjson.encode(kept))
return 'ok'
