-- @include registry/lua/include/full
-- @include ledger/lua/include/unruled
-- Leases what a confirmed purge names to one worker, registered or not. Holds and halts stand above it; a policy's
-- mode, pace, ramp and references do not.
-- ARGV[3]: request.lua's, with ids, actor, and policy: what stands for one where none is known; epoch: under which it was confirmed.
-- Returns {status, now, token, 0, JSON {id: why it was left}, [id, due, by, attempts, unknown]...}.

local again = replied()
if again then return again end
local policies = redis.call('SMEMBERS', key('policies'))

-- A registry that was emptied since knows of no hold.
local closing = closed(redis.call('HGET', key('marks'), 'purge') ~= request.epoch)
if closing then return { closing, now, 0, 0, '{}' } end
lapsed(request.policy, 200)
for _, policy in ipairs(policies) do lapsed(policy, 200) end
end_holds()

local function kept_back(id, record)
  if held(id) then return 'held' end
  if record.s == 'claimed' then return 'with another worker' end
  local reason = stopped(record.p)
  return reason and 'halted: ' .. reason
end

local token = next_token()
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
