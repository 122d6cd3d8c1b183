-- @include registry/lua/include/full
-- @include ledger/lua/include/lease
-- Ends tombstones: an already_gone one keeps its edges until here; and leases that ran out, of policies that nobody sweeps. ARGV[3]: settled before (ms), [4]: at most,
-- [5]: what was deleted before (ms) needs not be known any more, or ''.
-- What a purge leased that nobody registered stands under a name that is no policy's: such leases end too.
-- So do policy names that nothing stands under and no rules were ever written for: a typing error is no policy for ever.
-- Returns how many ended.
-- @policy (purge)

local function used(policy)
  local found = 0
  for _, name in ipairs({ 'rules', 'fresh', 'active', 'explicit', 'claims', 'waiting', 'suspects', 'tried', 'parked', 'kept', 'quarantine', 'sightings' }) do
    found = found + redis.call('EXISTS', part(policy, name))
  end
  return found > 0
end

for _, policy in ipairs(redis.call('SMEMBERS', key('policies'))) do
  lapsed(policy, 100)
  if not used(policy) then redis.call('SREM', key('policies'), policy) end
end
lapsed('(purge)', 100)
local ended = redis.call('ZRANGE', key('tombstones'), '-inf', ARGV[3], 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[4]))
for _, id in ipairs(ended) do
  if redis.call('HEXISTS', key('graves'), id) == 1 then release_edges(id) end
  redis.call('HDEL', key('graves'), id)
  redis.call('ZREM', key('tombstones'), id) -- last: what is left is found again
end
if ARGV[5] and ARGV[5] ~= '' then
  local last = math.floor(tonumber(ARGV[5]) / 1000) * 1048576
  local known = redis.call('ZRANGE', key('deleted'), '-inf', string.format('%.0f', last), 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[4]))
  if #known > 0 then redis.call('ZREM', key('deleted'), unpack(known)) end
  return math.max(#ended, #known)
end
return #ended
