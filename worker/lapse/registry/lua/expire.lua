-- @include registry/lua/include/full
-- @include registry/lua/include/late
-- @include registry/lua/include/record
-- Gives an id an expiry of its own. ARGV[3]: id, [4]: when (ms) or '' for now,
-- [5]: when it was said, if it comes late, [6]: only if it is of this subject.
-- Returns ok | unknown | too_late (a claim is out; the expiry is recorded); a late one overtaken too.

local id = ARGV[3]
local said, late = said_at(ARGV[5])
local at = ARGV[4] ~= '' and tonumber(ARGV[4]) or said
local record = locate(id)
if ARGV[6] and not is_of(ARGV[6], facts_of(id)) then return 'unknown' end
if late and (last_said(id, 'expire') > said or (record and (creation(record) or 0) > said)) then return 'overtaken' end
remember_said('expire', id, said)
if not record or record.q then return 'unknown' end
local state, score = record.s, record.d
if state ~= 'claimed' then lift(id, record) end
record.k = creation(record)
record.e, record.f, record.a, record.c, record.o = at, nil, nil, nil, nil
if state == 'tracked' then
  index(id, record)
  return 'ok'
end
if state == 'claimed' then
  amend(id, record)
  return 'too_late'
end
set_aside(id, record, state, score)
return 'ok'
