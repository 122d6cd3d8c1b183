-- @include registry/lua/include/full
-- @include ledger/lua/include/orphan
-- A first look at a page of a listing: which of its objects the next count has to see. Changes nothing.
-- ARGV[3]: policy, [4]: JSON {id: what its stamp says}.
-- Returns JSON {refused: {reason: n}, left: [id]}; one that was settled and is listed still is left too.
-- @policy ARGV[3]

local policy, refused, left = ARGV[3], {}, {}
for id, stamp in pairs(cjson.decode(ARGV[4])) do
  local why = spared(policy, id, stamp, sighting(policy, id))
  if why and why ~= 'settled' then
    refused[why] = (refused[why] or 0) + 1
  else
    left[#left + 1] = id
  end
end
return cjson.encode({ refused = refused, left = left })
