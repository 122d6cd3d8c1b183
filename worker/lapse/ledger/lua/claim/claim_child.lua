-- @include registry/lua/include/full
-- @include ledger/lua/include/budget
-- @include ledger/lua/include/child
-- @include ledger/lua/include/replay
-- Leases one id to the worker that is about to delete its parent. A hold, touch, forget or use by something else acknowledged before this wins.
-- ARGV[3]: id, [4]: policy of one that is not registered but carries our stamp, or '', [5]: JSON list of the sources that go with it ("provider|kind|id"),
-- [6]: lease (ms), [7]: JSON {policies: {name: {digest, enforce, amount, window, paused}}, amount, window, paused, place}; amount -1: unlimited; the parent's hold where the config does not know the child's policy,
-- [8]: worker, [9]: most audit records pending, [10]: when the parent was leased (ms): what was used since then stays,
-- [11]: the epoch that rules were adopted under, [12], [13]: between which Redis TIME has to be; '' each: not checked,
-- [14]: 1 if a use has to name it, [15]: the parent's last activity (ms), '': not known, [16]: the name of this request.
-- Returns {status, now, token, policy, attempts, unknown}; status: granted; one of child.lua's; limited, audit, breaker (not now).

local id, lease, rules = ARGV[3], tonumber(ARGV[6]), cjson.decode(ARGV[7])
local asked = { going = cjson.decode(ARGV[5]), named = ARGV[14] == '1', stamped = ARGV[4], since = tonumber(ARGV[10]),
                active = tonumber(ARGV[15]), rules = rules, epoch = ARGV[11], earliest = ARGV[12], latest = ARGV[13] }

local again = replied()
if again then return again end

local function answer(status, policy) return { status, now, 0, policy or '', 0, 0 } end

end_holds()
local status, record = standing(id, asked)
if status then return answer(status, record and record.p) end
local policy = record.p
if redis.call('XLEN', key('audit')) >= tonumber(ARGV[9]) then return answer('audit', policy) end
if let_through() == 0 then return answer('breaker', policy) end
local pace = rules.policies[policy] or rules
if pace_room(policy, numbers(policy), pace.amount, pace.window) <= 0 then return answer('limited', policy) end
local token = redis.call('HINCRBY', key('marks'), 'fence', 1)
grant(id, record, token, lease, string.format(
  ',"due":%.0f,"by":"cascade","parent":%s,"worker":%s', now, text(asked.going[#asked.going]), text(ARGV[8])))
spend(policy, 1)
return granting({ 'granted', now, token, policy, record.n or 0, record.u or 0 })
