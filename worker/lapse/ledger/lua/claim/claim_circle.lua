-- @include registry/lua/include/full
-- @include ledger/lua/include/candidates
-- @include ledger/lua/include/budget
-- @include ledger/lua/include/lease
-- @include ledger/lua/include/request
-- Leases one member of a circle: due, and used by nothing but the other members. Once all are leased each is asked again.
-- ARGV[3]: request.lua's, with id, members: ["provider|kind|id"], place: the account's, and token where it is asked again.
-- Returns {status, now, token, due, by, attempts, unknown}; status: granted | halted | lost | superseded | clock | audit |
-- limited | breaker | subjects | elsewhere (or no account known) | unswept (no sweep acted under these rules yet) | changed (touched, held, forgotten, used by something else, not due, claimed).

local policy, digest, id, token = request.policy, request.digest, request.id, request.token

local again = replied()
if again then return again end

local function answer(status) return { status, now, 0, 0, '', 0, 0 } end

local bar = barred(policy, digest, request.epoch, request.earliest, request.latest)
if bar then return answer(bar) end
if subjects_behind() then return answer('subjects') end
if redis.call('HGET', key('marks'), 'place') ~= request.place then return answer('elsewhere') end
-- A member of another partition is claimed only under rules that the guards of its own sweeps let act.
if redis.call('HGET', part(policy, 'rules'), 'acted') ~= digest then return answer('unswept') end
end_holds()

local record, rules = locate(id), rules_of(policy)

local function as_it_was()
  if not record or record.q or record.g or record.p ~= policy or rules.mode ~= 'enforce' then return false end
  if token then
    if record.s ~= 'claimed' or record.t ~= token or record.d <= now then return false end
  elseif record.s == 'waiting' then
    if record.d > now or record.x or record.o then return false end
  elseif record.s ~= 'tracked' and not (record.s == 'parked' and record.r == 'referenced') then
    return false
  end
  return not held(id) and not used_otherwise(id, request.members)
end

if not as_it_was() then return answer('changed') end
local due, by = due_of(record, rules)
if not due or due > now then return answer('changed') end
if token then return { 'granted', now, token, due, by, record.n or 0, record.u or 0 } end
if redis.call('XLEN', key('audit')) >= request.pending then return answer('audit') end

local state = numbers(policy)
local function due_now() return due_count(policy, rules) end
local room = math.min(pace_room(policy, state, pace.amount, pace.window),
                      ramp_room(policy, state, request.ramp or -1, due_now))
if room <= 0 then return answer('limited') end
token = next_token()
grant(id, record, token, request.lease, string.format(
  ',"due":%.0f,"by":"%s","rules":"%s","worker":%s,"circle":%s', due, by, digest, text(request.worker), cjson.encode(request.members)))
spend(policy, 1)
return granting({ 'granted', now, token, due, by, record.n or 0, record.u or 0 })
