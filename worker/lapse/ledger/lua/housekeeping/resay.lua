-- @include registry/lua/include/full
-- @include registry/lua/include/slot
-- Corrects the name under which a source says that it uses something. ARGV[3]: source id, [4]: the edge as it says,
-- [5]: as it is right. Returns 1 if it said so.

local stored = redis.call('HGET', key('facts'), ARGV[3])
local facts = stored and cjson.decode(stored) or {}
local uses, named, said = {}, {}, 0
for _, edge in ipairs(facts.uses or {}) do
  if edge == ARGV[4] then edge, said = ARGV[5], 1 end
  if not named[edge] then
    named[edge] = true
    uses[#uses + 1] = edge
  end
end
if said == 0 then return 0 end
facts.uses = uses
redis.call('HSET', key('facts'), ARGV[3], cjson.encode(facts))
return 1
