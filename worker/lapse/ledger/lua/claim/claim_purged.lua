-- @include registry/lua/include/full
-- @include ledger/lua/include/lease
-- @include ledger/lua/include/request
-- Leases what a confirmed purge names to one worker, registered or not. Holds and halts stand above it; a policy's
-- mode, pace, ramp and references do not.
-- ARGV[3]: request.lua's, with ids, actor, and policy: what stands for one where none is known; epoch: under which it was confirmed.
-- Returns {status, now, token, 0, JSON {id: why it was left}, [id, due, by, attempts, unknown]...}.

local again = replied()
if again then return again end
local policies = redis.call('SMEMBERS', key('policies'))

-- Halts that doubt a rule's own signs: a purge goes by none of them, and no command lifts them.
local standing = { no_touches = true, no_uses = true }

local function stopped(policy)
  for _, reason in ipairs(halted(policy)) do
    if not standing[reason] then return reason end
  end
end

if stopped(request.policy) then return { 'halted', now, 0, 0, '{}' } end
-- A registry that was emptied since knows of no hold.
if redis.call('HGET', key('marks'), 'purge') ~= request.epoch then return { 'lost', now, 0, 0, '{}' } end
if subjects_behind() then return { 'subjects', now, 0, 0, '{}' } end
if #damaged() > 0 then return { 'damaged', now, 0, 0, '{}' } end
if redis.call('XLEN', key('audit')) >= request.pending then return { 'audit', now, 0, 0, '{}' } end
local earliest, latest = tonumber(request.earliest), tonumber(request.latest)
if earliest and (now < earliest or now > latest) then return { 'clock', now, 0, 0, '{}' } end
if let_through() == 0 then return { 'breaker', now, 0, 0, '{}' } end
lapsed(request.policy, 200)
for _, policy in ipairs(policies) do lapsed(policy, 200) end
end_holds()

local function kept_back(id, record)
  if held(id) then return 'held' end
  if record.s == 'claimed' then return 'with another worker' end
  local reason = stopped(record.p)
  return reason and 'halted: ' .. reason
end

local token = redis.call('HINCRBY', key('marks'), 'fence', 1)
local reply, left, granted, room = { 'ok', now, token, 0, '{}' }, {}, 0, let_through()
for _, id in ipairs(request.ids) do
  local record = locate(id, policies) or { p = request.policy, q = 1 }
  local why = kept_back(id, record) or granted >= room and "the kind's breaker is open"
  if why then
    left[id] = why
  else
    granted = granted + 1
    record.z, record.o = 1, nil
    grant(id, record, token, request.lease, string.format(
      ',"by":"purge","actor":%s,"worker":%s', text(request.actor), text(request.worker)))
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = id, now, 'purge'
    reply[n + 4], reply[n + 5] = record.n or 0, record.u or 0
  end
end
if next(left) then reply[5] = cjson.encode(left) end
return #reply > 5 and granting(reply) or reply
