-- @include registry/lua/include/full
-- @include registry/lua/include/late
-- @include registry/lua/include/record
-- Moves last activity to now, or to when a late one was said; forward only. Never moves an expiry of its own or a creation.
-- ARGV[3]: id, [4]: when it was said, if it comes late.
-- Returns ok | unknown | too_late (a claim is out; the touch is recorded and no further attempt ignores it).

local id, at = ARGV[3], said_at(ARGV[4])
local record = locate(id)
if not record or record.q then
  -- One that only carries our stamp is in use all the same: listings have to show it unused anew.
  for _, policy in ipairs(redis.call('SMEMBERS', key('policies'))) do
    if redis.call('HEXISTS', part(policy, 'sightings'), id) == 1 then redis.call('HSET', key('referenced'), id, now) end
  end
  if record and record.s == 'waiting' then take(id, record) end
  -- One that was settled as already gone is in use, if it comes back by an operator's undo.
  local grave = not record and redis.call('HGET', key('graves'), id)
  if grave then
    local buried = cjson.decode(grave)
    if not buried.e then buried.a, buried.c, buried.f = math.max(at, buried.a or buried.f or 0), creation(buried), nil end
    buried.h = 1
    redis.call('HSET', key('graves'), id, cjson.encode(buried))
  end
  return record and record.s == 'claimed' and 'too_late' or 'unknown'
end
if record.f then
  redis.call('HSETNX', key('said'), 'touched|' .. record.p, now)
end
if record.s == 'tracked' then
  if record.f then
    lift(id, record)
    record.a, record.c, record.f = math.max(at, record.f), record.f, nil
    index(id, record)
  elseif record.a and at > record.a then
    record.a = at
    index(id, record)
  end
  return 'ok'
end
if not record.e then
  record.a, record.c, record.f = math.max(at, record.a or record.f), creation(record), nil
end
record.o = nil
if record.s == 'claimed' then
  amend(id, record)
  return 'too_late'
end
local state, score = record.s, record.d
lift(id, record)
set_aside(id, record, state, score)
return 'ok'
