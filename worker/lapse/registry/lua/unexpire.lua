-- @include registry/lua/include/full
-- @include registry/lua/include/record
-- Takes an id's own expiry away: it was used now, and lives by its policy. ARGV[3]: id.
-- Returns ok | unknown (it has none) | too_late (a claim is out; no further attempt ignores it).

local id = ARGV[3]
local record = locate(id)
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
