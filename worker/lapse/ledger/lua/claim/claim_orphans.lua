-- @include registry/lua/include/full
-- @include ledger/lua/include/budget
-- @include ledger/lua/include/orphan
-- @include ledger/lua/include/request
-- Leases orphan candidates to one worker. Refuses whatever was named, held, touched, registered or forgotten since it was first seen.
-- ARGV[3]: request.lua's, with wanted: [{id, first}], and alone: true for ids that crashed a worker before.
-- Returns as claim.lua.

local policy, digest, lease, alone = request.policy, request.digest, request.lease, request.alone
local again = replied()
if again then return again end
local bar = barred(policy, digest, request.epoch, request.earliest, request.latest)
if bar then return { bar, now, 0, 0, '{}' } end
-- An application could not say all that it uses, and no operator knows yet.
local unsaid = redis.call('HGET', key('said'), 'unsaid')
if unsaid and redis.call('HGET', part(policy, 'rules'), 'unsaid_seen') ~= unsaid then return { 'halted', now, 0, 0, '{}' } end
if redis.call('XLEN', key('audit')) >= request.pending then return { 'audit', now, 0, 0, '{}' } end

-- Every claim rests on a sighting of the last listing: nothing that changed since is covered by it.
local function still(id, first)
  local one = sighting(policy, id)
  if not one or one.first ~= first then return nil end
  local why, record = spared(policy, id, one.m, one)
  if why or used_since(id, record, one) then return nil end
  if record.s == 'waiting' and record.d > now then return nil end
  if (record.x ~= nil) ~= alone then return nil end
  return record
end

local wanted, state = request.wanted, numbers(policy)
local function due_now() return #wanted end
local room = math.min(let_through(), pace_room(policy, state, pace.amount, pace.window),
                      ramp_room(policy, state, request.ramp or -1, due_now))
if room <= 0 then return { 'limited', now, 0, 0, '{}' } end

local token = redis.call('HINCRBY', key('marks'), 'fence', 1)
local reply, granted = { 'ok', now, token, 0, '{}' }, 0
for _, one in ipairs(wanted) do
  if granted >= room then break end
  local record = still(one.id, one.first)
  if record then
    record.o = 1
    grant(one.id, record, token, lease, string.format(
      ',"due":%.0f,"by":"orphan","rules":"%s","worker":%s', one.first, digest, text(request.worker)))
    granted = granted + 1
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = one.id, one.first, 'orphan'
    reply[n + 4], reply[n + 5] = record.n or 0, record.u or 0
  end
end
spend(policy, granted)
return granted > 0 and granting(reply) or reply
