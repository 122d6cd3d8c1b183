-- @include full
-- @include budget
-- @include lease
-- Leases one id to the worker that is about to delete its parent. A hold, touch, forget or use by something else acknowledged before this wins.
-- ARGV[3]: id, [4]: policy of one that is not registered but carries our stamp, or '', [5]: JSON list of the sources that go with it ("provider|kind|id"),
-- [6]: lease (ms), [7]: JSON {policies: {name: {digest, enforce, amount, window, paused}}, amount, window, paused, place}; amount -1: unlimited; the parent's hold where the config does not know the child's policy,
-- [8]: worker, [9]: most audit records pending, [10]: when the parent was leased (ms): what was used since then stays,
-- [11]: the epoch that rules were adopted under, [12], [13]: between which Redis TIME has to be; '' each: not checked.
-- Returns {status, now, token, policy, attempts, unknown}; status: granted; gone (settled before);
-- foreign, held, used, active, kept, quarantined, observed (it stays); claimed, waiting, paused, halted, superseded, lost, clock, elsewhere (ids of another account), limited, audit (not now).

local id, going, lease, rules = ARGV[3], cjson.decode(ARGV[5]), tonumber(ARGV[6]), cjson.decode(ARGV[7])

local function answer(status, policy) return { status, now, 0, policy or '', 0, 0 } end

end_holds()
local record = locate(id)
if record and record.s == 'claimed' and record.d <= now then
  lapse(id, record)
  record = locate(id)
end
if not record and redis.call('ZSCORE', key('tombstones'), id) then return answer('gone') end
if redis.call('ZSCORE', key('forgotten'), id) then return answer('foreign') end
if not record and ARGV[4] == '' then return answer('foreign') end
record = record or { p = ARGV[4], q = 1 }

local policy = record.p
local rule = rules.policies[policy]

-- Why it stays, whenever one asks.
local function spared()
  if redis.call('HEXISTS', key('holds'), id) == 1 then return 'held' end
  if used_otherwise(id, going) then return 'used' end
  if (record.a or record.f or 0) >= tonumber(ARGV[10]) then return 'active' end
  if record.s == 'quarantined' then return 'quarantined' end
  if record.s == 'kept' and record.d > now then return 'kept' end
  if rule and not rule.enforce then return 'observed' end
  -- A policy of another worker's file, or of an earlier one: its rules are not known here.
  if not rule and redis.call('HEXISTS', part(policy, 'rules'), 'since') == 1 then return 'observed' end
end

-- Why it cannot be claimed at this moment.
local function delayed()
  if record.s == 'claimed' then return 'claimed' end
  if record.s == 'waiting' and record.d > now then return 'waiting' end
  if rule and rule.paused or rules.paused then return 'paused' end
  if #halted(policy) > 0 then return 'halted' end
  local place = redis.call('HGET', key('marks'), 'place')
  if place and place ~= rules.place then return 'elsewhere' end
  local known = redis.call('HMGET', part(policy, 'rules'), 'digest', 'epoch')
  if rule and known[1] and known[1] ~= rule.digest then return 'superseded' end
  if known[2] and ARGV[11] ~= '' and known[2] ~= ARGV[11] then return 'lost' end
  if tonumber(ARGV[12]) and (now < tonumber(ARGV[12]) or now > tonumber(ARGV[13])) then return 'clock' end
  if redis.call('XLEN', key('audit')) >= tonumber(ARGV[9]) then return 'audit' end
  local pace = rule or rules
  if pace_room(policy, numbers(policy), pace.amount, pace.window) <= 0 then return 'limited' end
end

local status = spared() or delayed()
if status then return answer(status, policy) end
local token = redis.call('HINCRBY', key('marks'), 'fence', 1)
grant(id, record, token, lease, string.format(
  ',"due":%.0f,"by":"cascade","parent":%s,"worker":%s', now, text(going[#going]), text(ARGV[8])))
spend(policy, 1)
return { 'granted', now, token, policy, record.n or 0, record.u or 0 }
