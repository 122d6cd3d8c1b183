-- @include registry/lua/include/full
-- @include registry/lua/include/subjects
-- Brings a slot's copy of what is said of subjects up to a number of the namespace's. ARGV[3]: the number, [4]: 'all' if
-- what follows is the whole list, or the number before it if it is the one statement, [5...]: pairs of subject and hold (JSON)
-- or '', which ends it; of '\30' and a subject, the requests to erase it.
-- Returns ok | behind (an earlier statement has not come here yet: the whole list is needed).

local number, all = tonumber(ARGV[3]), ARGV[4] == 'all'
local known = subjects_known()
if known >= number then return 'ok' end -- a later list was copied before, with this in it
if not all and known ~= tonumber(ARGV[4]) then return 'behind' end

local said = {}
for i = 5, #ARGV, 2 do said[ARGV[i]] = ARGV[i + 1] end
if all then
  for _, subject in ipairs(redis.call('HKEYS', key('subject_holds'))) do
    if subject ~= SEPARATOR and not said[subject] then said[subject] = '' end
  end
end
local function erased(subject, requests, before)
  if requests == '' then return redis.call('HDEL', key('subject_holds'), ERASURE .. subject) end
  if requests == before then return end
  redis.call('SADD', key('joined'), subject) -- first: what stands already is not said again
  redis.call('HSET', key('subject_holds'), ERASURE .. subject, requests)
end

local function stated(subject, hold, before)
  local about = ',"subject":' .. text(subject)
  if hold ~= '' and hold ~= before then
    redis.call('HSET', key('subject_holds'), subject, hold)
    act('hold_subject', '', '', about .. ',"hold":' .. hold)
  elseif hold == '' and before and before ~= ENDED then
    redis.call('HSET', key('subject_holds'), subject, ENDED)
    act('unhold_subject', '', '', about)
  end
end

for subject, hold in pairs(said) do
  local before = redis.call('HGET', key('subject_holds'), subject)
  if string.sub(subject, 1, 1) == ERASURE then erased(string.sub(subject, 2), hold, before) else stated(subject, hold, before) end
end
set_subjects_known(number) -- last: until then the copy is not whole, and nothing is claimed by it
return 'ok'
