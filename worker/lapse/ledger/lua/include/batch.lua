-- @include registry/lua/include/full
-- @include ledger/lua/include/budget
-- @include ledger/lua/include/lease
-- @include ledger/lua/include/request
-- What the claims of a rule's own partition have in common: what bars them, how many may go, and one more lease.

local policy, digest, alone = request.policy, request.digest, request.alone

local function nothing(status) return { status, now, 0, 0, '{}' } end

-- Why nothing may be leased, or nil.
local function closed()
  local bar = barred(policy, digest, request.epoch, request.earliest, request.latest)
  if not bar and redis.call('XLEN', key('audit')) >= request.pending then return 'audit' end
  if not bar and subjects_behind() then return 'subjects' end
  return bar
end

-- How many may be leased for breaker, pace and ramp; due() says how many there are for it.
local function room_for(due)
  local state = numbers(policy)
  return math.min(let_through(), pace_room(policy, state, pace.amount, pace.window),
                  ramp_room(policy, state, request.ramp or -1, due))
end

-- A reply that leases nothing yet, under a fence of its own.
local function opened() return { 'ok', now, next_token(), 0, '{}' } end

local function granted(reply) return (#reply - 5) / 5 end

local function lease(reply, one, record, more)
  grant(one.id, record, reply[3], request.lease, string.format(
    ',"due":%.0f,"by":"%s","rules":"%s","worker":%s%s', one.due, one.by, digest, text(request.worker), more or ''))
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = one.id, one.due, one.by
  reply[n + 4], reply[n + 5] = record.n or 0, record.u or 0
end
