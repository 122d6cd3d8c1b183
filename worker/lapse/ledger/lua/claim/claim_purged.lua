-- @include registry/lua/include/full
-- @include ledger/lua/include/lease
-- @include ledger/lua/include/replay
-- Leases what a confirmed purge names to one worker, registered or not. Holds and halts stand above it; a policy's
-- mode, pace, ramp and references do not.
-- ARGV[3]: what stands for a policy where none is known, [4]: JSON [id], [5]: lease (ms), [6]: worker,
-- [7]: most audit records pending, [8]: actor (JSON string), [9]: the epoch under which it was confirmed,
-- [10], [11]: between which times it has to be now ('' for any), [12]: the name of this request.
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

if stopped(ARGV[3]) then return { 'halted', now, 0, 0, '{}' } end
-- A registry that was emptied since knows of no hold.
if redis.call('HGET', key('marks'), 'purge') ~= ARGV[9] then return { 'lost', now, 0, 0, '{}' } end
if #damaged() > 0 then return { 'damaged', now, 0, 0, '{}' } end
if redis.call('XLEN', key('audit')) >= tonumber(ARGV[7]) then return { 'audit', now, 0, 0, '{}' } end
if tonumber(ARGV[10]) and (now < tonumber(ARGV[10]) or now > tonumber(ARGV[11])) then return { 'clock', now, 0, 0, '{}' } end
if let_through() == 0 then return { 'breaker', now, 0, 0, '{}' } end
lapsed(ARGV[3], 200)
for _, policy in ipairs(policies) do lapsed(policy, 200) end
end_holds()

local function kept_back(id, record)
  if redis.call('HEXISTS', key('holds'), id) == 1 then return 'held' end
  if record.s == 'claimed' then return 'with another worker' end
  local reason = stopped(record.p)
  return reason and 'halted: ' .. reason
end

local token = redis.call('HINCRBY', key('marks'), 'fence', 1)
local reply, left, granted, room = { 'ok', now, token, 0, '{}' }, {}, 0, let_through()
for _, id in ipairs(cjson.decode(ARGV[4])) do
  local record = locate(id, policies) or { p = ARGV[3], q = 1 }
  local why = kept_back(id, record) or granted >= room and "the kind's breaker is open"
  if why then
    left[id] = why
  else
    granted = granted + 1
    record.z, record.o = 1, nil
    grant(id, record, token, tonumber(ARGV[5]), string.format(
      ',"by":"purge","actor":%s,"worker":%s', ARGV[8], text(ARGV[6])))
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = id, now, 'purge'
    reply[n + 4], reply[n + 5] = record.n or 0, record.u or 0
  end
end
if next(left) then reply[5] = cjson.encode(left) end
return #reply > 5 and granting(reply) or reply
