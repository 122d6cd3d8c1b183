-- @include registry/lua/include/full
-- @include ledger/lua/include/budget
-- @include ledger/lua/include/lease
-- @include registry/lua/include/due
-- @include ledger/lua/include/request
-- Leases ids of a plan to one worker: each as it stood when the plan was made, or not at all.
-- ARGV[3]: request.lua's, with wanted: [{id, due}], plan: its hash, and alone: true for ids that crashed a worker before.
-- Returns {status, now, token, 0, JSON {id: why it was left out}, [id, due, by, attempts, unknown]...}; status as claim.lua.
-- An id that is neither left out nor leased was beyond what pace and ramp allow.

local policy, digest, lease, alone = request.policy, request.digest, request.lease, request.alone

local again = replied()
if again then return again end

local function nothing(status) return { status, now, 0, 0, '{}' } end

local bar = barred(policy, digest, request.epoch, request.earliest, request.latest)
if bar then return nothing(bar) end
if redis.call('XLEN', key('audit')) >= request.pending then return nothing('audit') end
lapsed(policy, 200)
end_holds()

local rules, wanted, state = rules_of(policy), request.wanted, numbers(policy)
local function due_now() return #wanted end
local room = math.min(let_through(), pace_room(policy, state, pace.amount, pace.window),
                      ramp_room(policy, state, request.ramp or -1, due_now))
if room <= 0 then return nothing('limited') end

-- Why a planned id is not as it was, or nil.
local function changed(one, record)
  if not record or record.q then return redis.call('ZSCORE', key('forgotten'), one.id) and 'forgotten' or 'not tracked any more' end
  if record.p ~= policy then return 'moved to ' .. record.p end
  if record.s == 'claimed' or record.s == 'quarantined' or record.s == 'kept' then return record.s end
  if record.s == 'waiting' and record.d > now then return 'backed off' end
  local due, by = due_of(record, rules)
  if not due or due > now then return 'not due any more' end
  if due ~= one.due then return 'touched, or given another expiry' end
  if record.x and not alone then return 'crashed a worker since' end
  return nil, by
end

local token = redis.call('HINCRBY', key('marks'), 'fence', 1)
local reply, left, granted = { 'ok', now, token, 0, '{}' }, {}, 0
for _, one in ipairs(wanted) do
  if granted >= room then break end
  local record = locate(one.id)
  local why, by = changed(one, record)
  why = why or guarded(one.id, record)
  if why then
    left[one.id] = why
  else
    grant(one.id, record, token, lease, string.format(
      ',"due":%.0f,"by":"%s","rules":"%s","worker":%s,"plan":%s', one.due, by, digest, text(request.worker), text(request.plan)))
    granted = granted + 1
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = one.id, one.due, by
    reply[n + 4], reply[n + 5] = record.n or 0, record.u or 0
  end
end
spend(policy, granted)
if next(left) then reply[5] = cjson.encode(left) end
return granted > 0 and granting(reply) or reply
