-- @include full
-- @include lease
-- Records what became of claims: state, counters and audit in one step.
-- ARGV[3]: JSON {batch, identity, worker, attempts, listable, counters: {field: n}, settled: [{id, token, policy, due, act, outcome,
--   delay, counted, unknown, reason, detail, status, request, items, active, left: {reason: n}, extra}]};
--   act: done | retry | keep | touch (the provider saw it used at "active") | quarantine | release.
-- Returns {now, edges released, [id refused because the lease was taken over]...}.

local batch = cjson.decode(ARGV[3])
local reply = { now, 0 }
-- A batch whose reply was lost is sent again: what it counts is counted once.
if not redis.call('SET', key('batch:' .. batch.batch), now, 'NX', 'PX', 600000) then return reply end
local lag_bounds = { 10, 60, 300, 1800, 3600, 21600, 86400, 604800, 2592000 }

local function write(event, one, record, outcome)
  local more = string.format(',"token":%.0f,"outcome":"%s","attempt":%d', one.token, outcome, (record.n or 0) + 1)
  if one.status then more = more .. string.format(',"status":%d', one.status) end
  if one.request then more = more .. ',"request_id":' .. text(one.request) end
  if one.detail then more = more .. ',"detail":' .. text(one.detail) end
  if record.u then more = more .. ',"after_unknown":true' end
  if (one.items or 0) > 0 then more = more .. string.format(',"items":%d', one.items) end
  audit(event, one.id, record.p, more .. ',"worker":' .. text(batch.worker))
end

local function lag(policy, due)
  local late = math.max(0, now - due)
  local bucket = 'inf'
  for _, bound in ipairs(lag_bounds) do
    if late <= bound * 1000 then
      bucket = string.format('%d', bound)
      break
    end
  end
  count('lag|' .. policy .. '|' .. bucket)
  count('lag_ms|' .. policy, late)
end

local function refund(record)
  if record.z then return end -- a purge has no pace
  local policy = record.p
  for _, field in ipairs({ 'pace_used', 'ramp_used' }) do
    if redis.call('HINCRBY', part(policy, 'rules'), field, -1) < 0 then redis.call('HSET', part(policy, 'rules'), field, 0) end
  end
end

local function bury(one, record)
  take(one.id, record)
  redis.call('HDEL', part(record.p, 'sightings'), one.id)
  -- A list may show a deleted id for a while; where there is no list, nothing needs to remember it.
  if batch.listable or one.outcome ~= 'deleted' then redis.call('ZADD', key('tombstones'), now, one.id) end
  if one.outcome == 'deleted' then
    redis.call('HDEL', key('referenced'), one.id)
    redis.call('HSET', key('marks'), 'proof|' .. batch.identity, now)
    count('deletions|' .. record.p .. '|' .. kind)
    reply[2] = reply[2] + release_edges(one.id)
  else
    record.s, record.t, record.d, record.r = 'gone', nil, nil, nil
    redis.call('HSET', key('graves'), one.id, cjson.encode(record))
    refund(record)
  end
  lag(record.p, one.due)
  write('settled', one, record, one.outcome)
end

local function again(one, record)
  if one.act == 'release' or not one.unknown then refund(record) end
  if one.act == 'retry' and not record.z then redis.call('HSET', part(record.p, 'rules'), 'ramp_from', now) end
  write(({ release = 'released', keep = 'kept', retry = 'retried', touch = 'active' })[one.act], one, record, one.outcome)
  take(one.id, record)
  record.t, record.u = nil, record.u or one.unknown and 1 or nil
  if one.counted then record.n = (record.n or 0) + 1 end
  if one.act == 'touch' and not (record.e or record.q) then
    record.a, record.c, record.f = math.max(one.active, record.a or record.f), creation(record), nil
  end
  local foreign = record.z and record.q
  record.z = nil
  if record.g or foreign then
    reply[2] = reply[2] + release_edges(one.id)
  elseif redis.call('HEXISTS', key('holds'), one.id) == 1 and not record.q then
    record.r = 'held'
    set_aside(one.id, record, 'parked', now)
  elseif one.act == 'touch' and record.q then
    -- Nothing of it is in an index: listings have to show it unused anew.
    redis.call('HDEL', part(record.p, 'sightings'), one.id)
  elseif one.act == 'touch' then
    record.o = nil
    index(one.id, record)
  elseif one.act == 'keep' and record.o then
    -- What it says of itself is not what the listing said: listings have to show it as an orphan anew.
    redis.call('HDEL', part(record.p, 'sightings'), one.id)
    if not record.q then
      record.o, record.n, record.x, record.y, record.u = nil, nil, nil, nil, nil
      index(one.id, record)
    end
  elseif one.act == 'keep' and not record.q then
    set_aside(one.id, record, 'kept', now + one.delay)
  elseif (record.n or 0) >= batch.attempts then
    quarantine(one.id, record, 'attempts', one.detail)
  elseif one.act == 'release' and not (record.n or record.x or record.u or record.q) then
    record.o = nil
    index(one.id, record)
  else
    record.r = one.reason
    set_aside(one.id, record, 'waiting', now + one.delay)
  end
end

for _, one in ipairs(batch.settled) do
  local record = aside(one.id)
  if not record or record.s ~= 'claimed' or record.t ~= one.token then
    reply[#reply + 1] = one.id
    count('settled|' .. one.policy .. '|refused')
    audit('refused', one.id, one.policy, string.format(',"token":%.0f,"outcome":"%s"', one.token, one.outcome))
  else
    -- What was given back unbegun met no answer.
    if one.outcome ~= 'limited' then count('settled|' .. record.p .. '|' .. one.outcome) end
    if (one.items or 0) > 0 then count('deletions|' .. record.p .. '|' .. kind .. '_item', one.items) end
    if one.act == 'done' then
      if (one.extra or 0) > 0 then
        redis.call('HINCRBY', part(record.p, 'rules'), 'extra', one.extra)
        redis.call('HINCRBY', part(record.p, 'rules'), 'extra_of', 1)
      end
      for reason, n in pairs(one.left or {}) do count('left||' .. reason, n) end
      bury(one, record)
    elseif one.act == 'quarantine' then
      write('quarantined', one, record, one.outcome)
      if not one.unknown then refund(record) end
      take(one.id, record)
      if not (record.z and record.q) then
        record.z = nil
        quarantine(one.id, record, one.reason, one.detail)
        redis.call('HSET', part(record.p, 'rules'), 'ramp_from', now)
      end
    else
      again(one, record)
    end
  end
end
for field, n in pairs(batch.counters) do count(field, n) end
return reply
