-- @include ledger/lua/include/lease
-- @include ledger/lua/include/request
-- What the claims have in common that go by no rule: of a purge, and of an erasure.

-- Halts that doubt a rule's own signs: what no rule decides goes by none of them, and no command lifts them.
local standing = { no_touches = true, no_uses = true }

local function stopped(policy)
  for _, reason in ipairs(halted(policy)) do
    if not standing[reason] then return reason end
  end
end

-- Why nothing may be leased, or nil. lost: the registry knows nothing of what was confirmed.
local function closed(lost)
  if stopped(request.policy) then return 'halted' end
  if lost then return 'lost' end
  if subjects_behind() then return 'subjects' end
  if #damaged() > 0 then return 'damaged' end
  if redis.call('XLEN', key('audit')) >= request.pending then return 'audit' end
  local earliest, latest = tonumber(request.earliest), tonumber(request.latest)
  if earliest and (now < earliest or now > latest) then return 'clock' end
  if let_through() == 0 then return 'breaker' end
end
