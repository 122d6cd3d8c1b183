-- @include ledger/lua/include/lease
-- What the registry says of a listed object: the same for a first look, for the count and for the claim.
-- A sighting says how often listings showed it so: times, first and run (the last listing), n name, c creation (s),
-- m what its stamp says: ours | other_namespace | old_epoch | no_nonce | copied | '', q not registered then, l settled once and still listed.

local policies = redis.call('SMEMBERS', key('policies'))

local function sighting(policy, id)
  local stored = redis.call('HGET', part(policy, 'sightings'), id)
  return stored and cjson.decode(stored) or nil
end

local function not_ours(stamp) return stamp == '' and 'foreign' or stamp end

-- Returns why it is no orphan now, or nil and its record; one of its own for what is ours and not registered.
local function spared(policy, id, stamp, seen)
  if stamp == 'other_namespace' then return stamp end
  if redis.call('ZSCORE', key('forgotten'), id) then return 'forgotten' end
  if redis.call('ZSCORE', key('tombstones'), id) then return 'settled' end
  local record = locate(id, policies)
  if not record then
    if stamp ~= 'ours' and not (seen and seen.l) then return not_ours(stamp) end
    record = { p = policy, q = 1 }
  end
  if record.p ~= policy then return 'other_policy' end
  if record.e then return 'own_expiry' end
  if record.s == 'claimed' or record.s == 'quarantined' then return record.s end
  if held(id) then return 'held' end
  if referenced(id) then return 'referenced' end
  if record.s == 'kept' and record.d > now then return 'kept' end
  return nil, record
end

-- True if an application has said something of it since listings began to show it unused.
local function used_since(id, record, seen)
  local named = tonumber(redis.call('HGET', key('referenced'), id) or nil) or 0
  local active = math.max(record.a or 0, record.f or 0, record.k or 0)
  return named >= seen.first or active >= seen.first or (seen.q and not record.q)
end
