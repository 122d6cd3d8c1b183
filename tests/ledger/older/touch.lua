-- @include full
-- @include record
-- Moves last activity to now. Never moves an expiry of its own or a creation. ARGV[3]: id.
-- Returns ok | unknown | too_late (a claim is out; the touch is recorded and no further attempt ignores it).

local id = ARGV[3]
local record = locate(id)
if not record or record.q then
  -- One that only carries our stamp is in use all the same: listings have to show it unused anew.
  for _, policy in ipairs(redis.call('SMEMBERS', key('policies'))) do redis.call('HDEL', part(policy, 'sightings'), id) end
  if record and record.s == 'waiting' then take(id, record) end
  return record and record.s == 'claimed' and 'too_late' or 'unknown'
end
if record.f then
  redis.call('HSETNX', key('marks'), 'touched|' .. record.p, now)
end
if record.s == 'tracked' then
  if record.f then
    take(id, record)
    record.a, record.c, record.f = math.max(now, record.f), record.f, nil
    index(id, record)
  elseif record.a then
    redis.call('ZADD', part(record.p, 'active'), 'GT', now, id)
  end
  return 'ok'
end
if not record.e then
  record.a, record.c, record.f = math.max(now, record.a or record.f), creation(record), nil
end
local state, score = record.s, record.d
take(id, record)
record.o = nil
set_aside(id, record, state, score)
return state == 'claimed' and 'too_late' or 'ok'
