-- @include registry/lua/include/full
-- @include registry/lua/include/record
-- Gives an id an expiry of its own. ARGV[3]: id, [4]: when (ms) or '' for now.
-- Returns ok | unknown | too_late (a claim is out; the expiry is recorded).

local id = ARGV[3]
local at = ARGV[4] ~= '' and tonumber(ARGV[4]) or now
local record = locate(id)
if not record or record.q then return 'unknown' end
local state, score = record.s, record.d
if state ~= 'claimed' then lift(id, record) end
record.k = creation(record)
record.e, record.f, record.a, record.c = at, nil, nil, nil
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
