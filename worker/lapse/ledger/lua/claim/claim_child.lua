-- @include registry/lua/include/full
-- @include ledger/lua/include/budget
-- @include ledger/lua/include/child
-- @include ledger/lua/include/request
-- Leases one id to the worker that is about to delete its parent. A hold, touch, forget or use by something else acknowledged before this wins.
-- ARGV[3]: request.lua's, with id, stamped: policy of one that is not registered but carries our stamp, or '', going: the sources
-- that go with it ("provider|kind|id"), rules: {policies: {name: {digest, enforce, amount, window, paused}}, amount, window, paused,
-- place}; amount -1: unlimited; the parent's hold where the config does not know the child's policy, since: when the parent was
-- leased (ms): what was used from then on stays, named: true if a use has to name it, active: the parent's last activity (ms), if known.
-- Returns {status, now, token, policy, attempts, unknown}; status: granted; one of child.lua's; limited, audit, breaker, subjects (not now).
-- @policy ARGV[3].stamped

local id, rules = request.id, request.rules

local again = replied()
if again then return again end

local function answer(status, policy) return { status, now, 0, policy or '', 0, 0 } end

if subjects_behind() then return answer('subjects') end
end_holds()
local status, record = standing(id, request)
if status then return answer(status, record and record.p) end
local policy = record.p
if redis.call('XLEN', key('audit')) >= request.pending then return answer('audit', policy) end
if let_through() == 0 then return answer('breaker', policy) end
local own = rules.policies[policy] or rules
if pace_room(policy, numbers(policy), own.amount, own.window) <= 0 then return answer('limited', policy) end
if rules.subject then record.j, record.z, record.i = rules.subject, 1, now end
local token = next_token()
grant(id, record, token, request.lease, string.format(
  ',"due":%.0f,"by":"cascade","parent":%s,"worker":%s', now, text(request.going[#request.going]), text(request.worker)))
spend(policy, 1)
return granting({ 'granted', now, token, policy, record.n or 0, record.u or 0 })
