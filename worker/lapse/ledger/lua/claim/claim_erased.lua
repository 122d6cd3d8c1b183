-- @include registry/lua/include/full
-- @include registry/lua/include/erasures
-- @include ledger/lua/include/unruled
-- Leases what belongs to a request to erase a subject to one worker. Mode, ttl, keep, pace and ramp are no objection; holds,
-- halts, pauses, another subject and whatever else uses it are. What failed before is tried at once, and from then on as
-- its back-off says.
-- ARGV[3]: request.lua's, with policy: what stands for one in the name of this request, subject, erasure: its id, at: when it was
-- said (ms), place: of the account, paused: policies, along: a kind whose uses do not protect, or '', ids: [{id, going: sources that go too}].
-- Returns {status, now, token, 0, JSON {id: why it was left}, [id, due, by, attempts, unknown]...}.

local again = replied()
if again then return again end
local policies = redis.call('SMEMBERS', key('policies'))

local closing = closed()
if closing then return { closing, now, 0, 0, '{}' } end
for _, policy in ipairs(policies) do lapsed(policy, 200) end
end_holds()

local paused = {}
for _, policy in ipairs(request.paused) do paused[policy] = true end
local place = redis.call('HGET', key('marks'), 'place')

-- True if each subject of an id is to be erased, and this one by this request.
local function whole(id, record)
  local named, created = false, creation_kept(creation(record), facts_of(id)) or 0
  for _, subject in ipairs(owners(id, record)) do
    local covered = false
    for _, one in ipairs(requests_of(subject)) do
      covered = covered or created < one['until']
      named = named or (subject == request.subject and one.id == request.erasure)
    end
    if not covered then return false end
  end
  return named
end

local function used(one)
  local going, along = {}, provider .. '|' .. request.along .. '|'
  for _, source in ipairs(one.going) do going[source] = true end
  return any_source(one.id, function(source)
    return not (going[source] or (request.along ~= '' and string.sub(source, 1, #along) == along))
  end)
end

local function kept_back(one, record)
  if record.g then return 'forgotten' end
  if held(one.id) then return 'held' end
  if record.s == 'claimed' then return 'claimed' end
  local reason = stopped(record.p)
  if reason then return 'halted: ' .. reason end
  if paused[record.p] then return 'paused' end
  if place and place ~= request.place then return 'elsewhere' end
  if not whole(one.id, record) then return 'shared' end
  if used(one) then return 'used' end
  if (record.i or 0) < request.at then return nil end
  if record.s == 'quarantined' then return 'quarantined' end
  if (record.s == 'waiting' or record.s == 'kept') and record.d > now then return record.s end
end

-- What was settled as gone before the request is told as that, and its subject leaves the grave.
local function buried(id)
  local grave = redis.call('HGET', key('graves'), id)
  if not grave then return false end
  local at = tonumber(redis.call('ZSCORE', key('tombstones'), id) or nil)
  credit(id, cjson.decode(grave), { o = 'already_gone', at = at, why = 'it was gone before the request, as the audit says' })
  disown(id)
  return true
end

local token = next_token()
local reply, left, granted, room = { 'ok', now, token, 0, '{}' }, {}, 0, let_through()
for _, one in ipairs(request.ids) do
  local record = locate(one.id, policies)
  local why
  if not record or record.q then
    why = not record and buried(one.id) and 'gone' or 'unknown'
  else
    why = kept_back(one, record) or granted >= room and 'breaker'
  end
  if why then
    left[one.id] = why
  else
    granted = granted + 1
    record.z, record.o, record.i = 1, nil, now
    local circle = #one.going > 0 and ',"circle":' .. cjson.encode(one.going) or ''
    grant(one.id, record, token, request.lease, string.format(
      ',"due":%.0f,"by":"erasure","request":%s,"worker":%s%s', now, text(request.erasure), text(request.worker), circle))
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = one.id, now, 'erasure'
    reply[n + 4], reply[n + 5] = record.n or 0, record.u or 0
  end
end
if next(left) then reply[5] = cjson.encode(left) end
return granted > 0 and granting(reply) or reply
