-- @include registry/lua/include/full
-- @include registry/lua/include/parking
-- Says anew whose data a tracked id is. ARGV[3]: id, [4]: JSON, the subjects (a text, or a list), [5]: actor (JSON string),
-- [6]: reason (JSON string). A hold of a subject takes effect on it, or ends, with that.
-- Returns ok | unknown | same | too_late (a deletion is under way; it is the new subject's, and no further attempt ignores that).

local id, subject = ARGV[3], cjson.decode('[' .. ARGV[4] .. ']')[1]
local record = locate(id)
if not record or record.q then return 'unknown' end
local facts = facts_of(id) or {}
local function named(one) return table.concat(subjects_in({ subject = one }), SEPARATOR) end
local same = named(facts.subject) == named(subject)

local function move()
  local before, left = facts.subject, { subject = {} }
  local was = before and ',"was":' .. cjson.encode(before) or ''
  audit('subject_moved', id, record.p, ',"subject":' .. ARGV[4] .. was .. ',"actor":' .. ARGV[5] .. ',"reason":' .. ARGV[6])
  index_subjects(id, { subject = subject }) -- first: an entry without the fact is passed over
  for _, one in ipairs(subjects_in({ subject = before })) do
    if not is_of(one, { subject = subject }) then left.subject[#left.subject + 1] = one end
  end
  facts.subject = subject
  redis.call('HSET', key('facts'), id, cjson.encode(facts))
  unindex_subjects(id, left)
end

if not same then move() end
local answer = record.s == 'claimed' and 'too_late' or 'ok'
if held(id) then -- said again after a call that ended in the middle, it takes effect too
  answer = park(id, record)
elseif record.s == 'parked' and record.r == 'held' then
  unpark(id, record)
end
return same and 'same' or answer
