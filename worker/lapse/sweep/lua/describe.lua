-- @include registry/lua/include/edges
-- @include registry/lua/include/holds
-- What a purge says of listed ids before somebody confirms it. Changes nothing. ARGV[3]: JSON {id: what its stamp says}.
-- Returns JSON {foreign: [ids that are not provably ours], held: {id: why}}.

local policies, found = redis.call('SMEMBERS', key('policies')), { foreign = {}, held = {} }
for id, stamp in pairs(cjson.decode(ARGV[3])) do
  local known = stamp == 'ours' or locate(id, policies) or redis.call('ZSCORE', key('tombstones'), id)
  if not known or stamp == 'other_namespace' or redis.call('ZSCORE', key('forgotten'), id) then
    found.foreign[#found.foreign + 1] = id
  end
  local hold = hold_of(id)
  if hold then found.held[id] = hold.reason end
end
return cjson.encode(found)
