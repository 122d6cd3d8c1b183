-- @include registry/lua/include/full
-- @include registry/lua/include/erasures
-- @include ledger/lua/include/lease
-- @include ledger/lua/include/gone_wall
-- @include ledger/lua/include/principals
-- @include ledger/lua/include/once
-- @include ledger/lua/include/doubt
-- Records what became of claims: state, counters and audit in one step.
-- ARGV[3]: JSON {batch, worker, attempts, listable, wall: {percent, at_least}, rolled_back, counters: {field: n}, settled: [{id,
--   token, policy, due, at, act, outcome, delay, counted, unknown, reason, detail, status, request, items, told (those of them that progress.lua counted), active,
--   left: {reason: n}, extra, identity, seen (present | absent), believed, good, doubt}]};
--   good: an answer to its DELETE; doubt: answer | failure | error | outage, of what may be said to all (doubt.lua).
--   act: done | retry | keep | touch (the provider saw it used at "active") | quarantine | release.
-- Returns {now, edges released, JSON list of absences that were one too many, [id refused because the lease was taken over]...}.
--
-- A batch sent again has the effect and the reply of one sent once, wherever the script may have ended before: each outcome
-- is written down with all that it owes before it takes effect, what it owes is paid at the end, once for each key, and the
-- reply is kept.
-- @key batch:ARGV[3].batch
-- @key settling:ARGV[3].batch

local batch = cjson.decode(ARGV[3])
local kept = redis.call('GET', key('batch:' .. batch.batch))
begin_once(batch.batch)
if kept then
  forget_once()
  return cjson.decode(kept)
end
local released, walled, refused = 0, {}, {}
local lag_bounds = { 10, 60, 300, 1800, 3600, 21600, 86400, 604800, 2592000 }

local function line(event, one, record, outcome)
  local more = string.format(',"token":%.0f,"outcome":"%s","attempt":%d', one.token, outcome, (record.n or 0) + 1)
  if one.status then more = more .. string.format(',"status":%d', one.status) end
  if one.request then more = more .. ',"request_id":' .. text(one.request) end
  if one.detail then more = more .. ',"detail":' .. text(one.detail) end
  if record.u then more = more .. ',"after_unknown":true' end
  local facts = facts_of(one.id)
  if facts and facts.subject then more = more .. ',"subject":' .. cjson.encode(facts.subject) end
  if (one.items or 0) > 0 then more = more .. string.format(',"items":%d', one.items) end
  return audit_line(event, one.id, record.p, more .. ',"worker":' .. text(batch.worker))
end

local function lag(own, policy, due)
  local late = math.max(0, now - due)
  local bucket = 'inf'
  for _, bound in ipairs(lag_bounds) do
    if late <= bound * 1000 then
      bucket = string.format('%d', bound)
      break
    end
  end
  owe_count(own, 'lag|' .. policy .. '|' .. bucket)
  owe_count(own, 'lag_ms|' .. policy, late)
end

-- Gives back what a claim took of a pace and a ramp, if the window and the step that it took it of still last: in a
-- later one it would let more go than was said.
local function refund(own, one, record)
  if record.z or one.policy ~= record.p then return end -- a purge has no pace; an id that was moved took from another's
  local rules = part(record.p, 'rules')
  local fences = redis.call('HMGET', rules, 'pace_fence', 'ramp_fence')
  for i, field in ipairs({ 'pace_used', 'ramp_used' }) do
    if fences[i] and one.token > tonumber(fences[i]) then owe(own, rules, field, -1) end
  end
end

local worked = {}

-- An id that was not found and now is there: under one identity the provider contradicts itself; under another, that one
-- looks at another place. Registering it anew ends what was missed before.
local function contradicted(one, record)
  for _, identity in ipairs(record.v or {}) do
    if identity == one.identity then
      halt('*', 'inconsistent_absence', one.id .. ' was not found, and is there under the same credential', record.p)
    else
      refuse_principal(identity, 'this credential does not find ' .. one.id .. ', and another one does')
    end
  end
  record.v, record.b = nil, nil
  if not record.q and not worked[one.identity] then
    worked[one.identity] = true
    redis.call('HSETNX', key('marks'), 'worked|' .. one.identity, now)
  end
end

local function missed(one, record)
  local v = record.v or {}
  for _, identity in ipairs(v) do
    if identity == one.identity then return end
  end
  v[#v + 1] = one.identity
  while #v > 8 do table.remove(v, 1) end
  record.v = v
end

-- Whether one that is gone may be settled as gone. What ended unknown before, was due before an accepted rollback, is purged,
-- or was said to be gone by an operator, is expected to be.
local function believable(own, one, record)
  if not batch.wall or record.u or record.z or one.believed or one.due <= (batch.rolled_back or 0) then return true end
  return wall_allows(own, record.p, 'g', batch.wall)
end

-- What a request to erase its subject is told of an id that is gone.
local function outcome_of(one)
  local deleted = one.outcome == 'deleted'
  return { o = deleted and 'erased' or 'already_gone', status = one.status, request = one.request, why = not deleted and one.detail or nil }
end

-- The id leaves the registry: what the provider confirmed, or does not know.
local function bury(own, one, record)
  if one.outcome == 'deleted' then
    owe_count(own, 'deletions|' .. record.p .. '|' .. kind)
    if batch.wall then wall_allows(own, record.p, 'd', batch.wall) end
  else
    refund(own, one, record)
  end
  lag(own, record.p, one.due)
  if one.outcome == 'deleted' then own.released = uses_something(one.id) end
  remember(one, own, line('settled', one, record, one.outcome))
  redis.call('HDEL', part(record.p, 'sightings'), one.id)
  -- A list may show a deleted id for a while; where there is no list, nothing needs to remember it.
  if batch.listable or one.outcome ~= 'deleted' then redis.call('ZADD', key('tombstones'), now, one.id) end
  local erased = credit(one.id, record, outcome_of(one))
  if one.outcome == 'deleted' then
    redis.call('ZADD', key('deleted'), deletion_score(one.token), one.id)
    redis.call('HDEL', key('referenced'), one.id)
    release_edges(one.id)
  else
    record.s, record.t, record.d, record.r = 'gone', nil, nil, nil
    record.p, record.l = record.l or record.p, nil
    redis.call('HSET', key('graves'), one.id, cjson.encode(record))
    if erased then disown(one.id) end -- nobody's name stays behind; reclaim knows it again
  end
  leave(one.id, own.p)
end

local function later(own, one, record)
  if one.act == 'release' or not one.unknown then refund(own, one, record) end
  if one.act == 'retry' and not record.z then owe_value(own, part(record.p, 'rules'), 'ramp_from', now) end
  local event = ({ release = 'released', keep = 'kept', retry = 'retried', touch = 'active' })[one.act]
  local foreign = record.z and record.q
  if record.g == 2 or (foreign and not record.g) then own.released = uses_something(one.id) end
  remember(one, own, line(event, one, record, one.outcome))
  move_on(record)
  record.t, record.u = nil, record.u or one.unknown and 1 or nil
  if one.act == 'release' then record.i = nil end -- no request was sent: an erasure has it to try still
  if one.counted then record.n = (record.n or 0) + 1 end
  if one.act == 'touch' and not (record.e or record.q) then
    -- What a provider says of the future is no use of it: it would never be due again.
    record.a, record.c, record.f = math.max(math.min(one.active, now), record.a or record.f), creation(record), nil
  end
  record.z = nil
  if record.g or foreign then
    untrack(one.id, record)
    leave(one.id, own.p)
  elseif held(one.id) and not record.q then
    record.r = 'held'
    move_aside(one.id, own.p, record, 'parked', now)
  elseif one.act == 'touch' and record.q then
    -- Nothing of it is in an index: listings have to show it unused anew.
    redis.call('HDEL', part(own.p, 'sightings'), one.id)
    leave(one.id, own.p)
  elseif one.act == 'touch' then
    record.o = nil
    move_back(one.id, own.p, record)
  elseif one.act == 'keep' and record.o then
    -- What it says of itself is not what the listing said: listings have to show it as an orphan anew.
    redis.call('HDEL', part(own.p, 'sightings'), one.id)
    if record.q then
      leave(one.id, own.p)
    else
      record.o, record.n, record.x, record.y, record.u = nil, nil, nil, nil, nil
      move_back(one.id, own.p, record)
    end
  elseif one.act == 'keep' and not record.q then
    move_aside(one.id, own.p, record, 'kept', now + one.delay)
  elseif (record.n or 0) >= batch.attempts then
    record.r, record.m = 'attempts', one.detail
    move_aside(one.id, own.p, record, 'quarantined', now)
  elseif one.act == 'release' and not (record.n or record.x or record.u or record.q) then
    record.o = nil
    move_back(one.id, own.p, record)
  else
    record.r = one.reason
    move_aside(one.id, own.p, record, 'waiting', now + one.delay)
  end
end

local function to_quarantine(own, one, record)
  if not one.unknown then refund(own, one, record) end
  local foreign = record.z and record.q
  if not foreign then owe_value(own, part(record.p, 'rules'), 'ramp_from', now) end
  remember(one, own, line('quarantined', one, record, one.outcome))
  move_on(record)
  if foreign then
    leave(one.id, own.p)
  else
    record.z, record.t, record.r, record.m = nil, nil, one.reason, one.detail
    move_aside(one.id, own.p, record, 'quarantined', now)
  end
end

local function settle(own, one, record)
  if one.identity and one.seen == 'present' then contradicted(one, record) end
  if one.outcome == 'already_gone' and not believable(own, one, record) then
    one.outcome, one.act, one.delay, one.reason = 'unproven', 'retry', 60000, 'unproven'
    own.walled = 1
  end
  if one.identity and one.outcome == 'unproven' then missed(one, record) end
  -- What was given back unbegun met no answer.
  if one.outcome ~= 'limited' then owe_count(own, 'settled|' .. record.p .. '|' .. one.outcome) end
  local items = one.items or 0
  if items > 0 then items = items - progress(one.id, one.token) end -- the others are counted
  if items > 0 then owe_count(own, 'deletions|' .. record.p .. '|' .. kind .. '_item', items) end
  if one.good then vouch(one.identity or '', record.p) end
  if one.doubt and not doubted(one.identity or '', one, record) then
    one.counted = false
    if one.act == 'quarantine' then one.act, one.reason, one.delay = 'retry', 'doubted', AGAIN end
  end
  -- Forgotten under this claim: no operator is to answer for it, and it leaves as it does with every other failure.
  if record.g and one.act == 'quarantine' then one.act = 'retry' end
  if one.act == 'done' then
    if (one.extra or 0) > 0 then
      owe(own, part(record.p, 'rules'), 'extra', one.extra)
      owe(own, part(record.p, 'rules'), 'extra_of', 1)
    end
    for reason, n in pairs(one.left or {}) do owe_count(own, 'left||' .. reason, n) end
    bury(own, one, record)
  elseif one.act == 'quarantine' then
    to_quarantine(own, one, record)
  else
    later(own, one, record)
  end
end

-- The lease was taken over. What the provider confirmed is deleted all the same, and counted once for each claim; all else is
-- the other worker's to say.
local function late(own, one, record)
  local known = redis.call('ZSCORE', key('deleted'), one.id)
  if one.outcome == 'deleted' and known and token_of(tonumber(known)) == one.token % TOKENS then return end
  one.items = (one.items or 0) - (one.told or 0)
  if one.items > 0 then owe_count(own, 'deletions|' .. own.p .. '|' .. kind .. '_item', one.items) end
  if one.outcome ~= 'deleted' then
    own.refused = 1
    owe_count(own, 'settled|' .. one.policy .. '|refused')
    local more = one.items > 0 and string.format(',"items":%d', one.items) or ''
    remember(one, own, audit_line('refused', one.id, one.policy, string.format(',"token":%.0f,"outcome":"%s"', one.token, one.outcome) .. more))
    return
  end
  owe_count(own, 'settled|' .. own.p .. '|deleted')
  owe_count(own, 'deletions|' .. own.p .. '|' .. kind)
  own.late = 1
  local anew = record and (creation(record) or 0) > (one.at or 0)
  if not anew then
    redis.call('HDEL', key('graves'), one.id)
    own.released = uses_something(one.id)
    if not credit(one.id, record, outcome_of(one)) then correct(one.id, outcome_of(one)) end
    release_edges(one.id)
    if record then take(one.id, record) end
    if batch.listable then redis.call('ZADD', key('tombstones'), now, one.id) else redis.call('ZREM', key('tombstones'), one.id) end
  end
  remember(one, own, line('corrected', one, { p = own.p }, 'deleted'))
  redis.call('ZADD', key('deleted'), deletion_score(one.token), one.id)
end

for _, one in ipairs(batch.settled) do
  local record = aside(one.id)
  local mine = record and record.s == 'claimed' and record.t == one.token
  local own = begun(one)
  if own and not mine then
    -- It took effect before, up to this perhaps.
    if not (record and record.s == 'claimed') then redis.call('ZREM', part(own.p, 'claims'), one.id) end -- not another's claim
    if own.late then redis.call('ZADD', key('deleted'), deletion_score(one.token), one.id) end
    wall_recovered(own)
  else
    own = owing(mine and record.p or one.policy)
    if mine then settle(own, one, record) else late(own, one, record or locate(one.id)) end
  end
  if (one.items or 0) > 0 then redis.call('HDEL', key('counters'), select(2, progress(one.id, one.token))) end
  released = released + (own.released or 0)
  if own.walled then walled[#walled + 1] = one.id end
  if own.refused then refused[#refused + 1] = one.id end
  collect(own)
end
local counters = owing('')
for field, n in pairs(batch.counters) do owe_count(counters, field, n) end
collect(counters)
pay()
local reply = { now, released, #walled > 0 and cjson.encode(walled) or '[]', unpack(refused) }
redis.call('SET', key('batch:' .. batch.batch), cjson.encode(reply), 'PX', 3600000)
end_once()
return reply
