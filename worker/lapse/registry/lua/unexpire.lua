-- @include registry/lua/include/full
-- @include registry/lua/include/late
-- @include registry/lua/include/record
-- Takes an id's own expiry away: it was used now, also where it comes late, and lives by its policy. ARGV[3]: id,
-- [4]: when it was said, if it comes late.
-- Returns ok | unknown (it has none) | too_late (a claim is out; no further attempt ignores it); a late one overtaken too.

local id = ARGV[3]
local said, late = said_at(ARGV[4])
local record = locate(id)
if late and (last_said(id, 'expire') > said or (record and (creation(record) or 0) > said)) then return 'overtaken' end
remember_said('expire', id, said)
if record and record.s == 'tracked' and redis.call('ZSCORE', part(record.p, 'explicit'), id) then
  -- Looked for here too: after a call that ended in the middle it stands in both places.
  record = { p = record.p, s = 'tracked', e = 0, k = tonumber(redis.call('ZSCORE', part(record.p, 'capped'), id)) or creation(record) }
end
if not record or not record.e then return 'unknown' end
local state, score = record.s, record.d
if state ~= 'claimed' then lift(id, record) end
record.a, record.c = math.max(now, record.k), record.k
record.e, record.k = nil, nil
if state == 'claimed' then
  amend(id, record)
  return 'too_late'
end
if state == 'tracked' then index(id, record) else set_aside(id, record, state, score) end
return 'ok'
