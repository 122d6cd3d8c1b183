-- @include record
-- An edge says that a source uses a target; it stands in the target's slot as "target|provider|kind|source".

local function referenced(id)
  return redis.call('ZRANGEBYLEX', key('edges'), '[' .. id .. '|', '(' .. id .. '}', 'LIMIT', 0, 1)[1] ~= nil
end

-- Hands the edges of a settled or forgotten source to whoever removes them in the slots of their targets.
local function release_edges(id)
  local facts = redis.call('HGET', key('facts'), id)
  if not facts then return 0 end
  redis.call('HDEL', key('facts'), id)
  local uses = cjson.decode(facts).uses
  if not uses then return 0 end
  redis.call('HSET', key('released'), id, cjson.encode(uses))
  return 1
end
