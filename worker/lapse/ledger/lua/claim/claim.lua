-- @include registry/lua/include/full
-- @include ledger/lua/include/candidates
-- @include ledger/lua/include/budget
-- @include ledger/lua/include/lease
-- @include ledger/lua/include/request
-- Leases due ids of a partition to one worker. A hold, touch, forget or new rule acknowledged before this always wins.
-- ARGV[3]: request.lua's, with limit, and alone: true for one id that crashed a worker before.
-- Returns {status, now, token, parked, '{}', [id, due, by, attempts, unknown]...};
-- status: ok | halted | lost (another epoch) | superseded | clock | limited | audit | breaker (this kind's) |
-- damaged (a key that protects ids is not whole).

local policy, digest, limit, lease, alone = request.policy, request.digest, request.limit, request.lease, request.alone

local again = replied()
if again then return again end

local function nothing(status) return { status, now, 0, 0, '{}' } end

local bar = barred(policy, digest, request.epoch, request.earliest, request.latest)
if bar then return nothing(bar) end
if redis.call('XLEN', key('audit')) >= request.pending then return nothing('audit') end
lapsed(policy, 200)
end_holds()
look_again(policy)

local rules, found = rules_of(policy), {}
if not rules.orphan then unlisted(policy) end
if alone then
  for _, id in ipairs(redis.call('ZRANGE', part(policy, 'suspects'), '-inf', now, 'BYSCORE', 'LIMIT', 0, 1)) do
    local record = aside(id)
    local due, by = due_of(record, rules)
    if due and due <= now then found[1] = { id = id, record = record, due = due, by = by } end
    if not found[1] then
      if record.q then
        take(id, record)
      else
        lift(id, record)
        index(id, record)
      end
    end
  end
else
  -- Behind an open breaker any may be the one that is answered well: the oldest are those that were not.
  found = candidates(policy, rules, let_through() == 1 and 100 or limit)
  if let_through() == 1 and #found > 1 then found = { found[now % #found + 1] } end
end
if #found == 0 then return nothing('ok') end

local state = numbers(policy)
local function due_now() return due_count(policy, rules) end
local room = math.min(let_through(), pace_room(policy, state, pace.amount, pace.window),
                      ramp_room(policy, state, request.ramp or -1, due_now))
if room <= 0 then return nothing('limited') end

local token = redis.call('HINCRBY', key('marks'), 'fence', 1)
local reply, parked, granted = { 'ok', now, token, 0, '{}' }, 0, 0
for i = 1, math.min(#found, limit) do
  local one = found[i]
  if granted >= room then break end
  if guarded(one.id, one.record) then
    parked = parked + 1
  else
    grant(one.id, one.record, token, lease, string.format(
      ',"due":%.0f,"by":"%s","rules":"%s","worker":%s', one.due, one.by, digest, text(request.worker)))
    granted = granted + 1
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = one.id, one.due, one.by
    reply[n + 4], reply[n + 5] = one.record.n or 0, one.record.u or 0
  end
end
spend(policy, granted)
reply[4] = parked
return granted + parked > 0 and granting(reply) or reply
