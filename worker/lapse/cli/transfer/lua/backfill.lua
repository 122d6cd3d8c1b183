-- @include registry/lua/include/record
-- @include registry/lua/include/policies
-- @include registry/lua/include/subjects
-- Tracks what was there before the registry knew it. An id of which anything is known stays as it is.
-- ARGV[3]: policy, [4]: import | adopt | look, [5...]: id, creation, last activity (ms), facts ('' or JSON).
-- adopt: what is held is left alone too, and what is added stood under no rule: all of it that is due is newly due.
-- look: what adopt would find; nothing is changed.
-- Returns a letter for each: n new, k known, f forgotten, s settled, h held.
-- @policy ARGV[3]

local policy, mode = ARGV[3], ARGV[4]
local ids = {}
for i = 5, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end

-- Of most slots, most of these keys are not there: nothing is known of any id by them.
local function absent(place) return #ids == 0 or redis.call('EXISTS', place) == 0 end

local function fields(place) return absent(place) and {} or redis.call('HMGET', place, unpack(ids)) end

local function members(place)
  local scores = {}
  if absent(place) then return scores end
  for i, id in ipairs(ids) do scores[i] = redis.call('ZSCORE', place, id) end
  return scores
end

local elsewhere, held = fields(key('aside')), fields(key('holds'))
local settled, forgotten = members(key('tombstones')), members(key('forgotten'))
local tracked = {}
for _, name in ipairs(policies) do
  for _, index in ipairs({ 'fresh', 'active', 'explicit' }) do
    for i, score in ipairs(members(part(name, index))) do
      if score then tracked[ids[i]] = true end
    end
  end
end

local function standing(i)
  if tracked[ids[i]] or elsewhere[i] then return 'k' end
  if forgotten[i] then return 'f' end
  if settled[i] then return 's' end
  if held[i] and mode ~= 'import' then return 'h' end
  return 'n'
end

local facts, owned, created, active, fresh, parked = {}, {}, {}, {}, {}, {}

local function add(list, one, other)
  local last = #list
  list[last + 1], list[last + 2] = one, other
end

local function put(command, place, list)
  if #list > 0 then redis.call(command, place, unpack(list)) end
end

-- As register.lua has it: what was never used since its creation stands in one index, all else in two.
local function arrange(i)
  local id, creation, activity, said = unpack(ARGV, 1 + 4 * i, 4 + 4 * i)
  if said ~= '' then add(facts, id, said) end
  local whose = string.find(said, '"subject"', 1, true) and subjects_in(cjson.decode(said)) or {}
  for _, subject in ipairs(whose) do
    add(owned, 0, subject .. SEPARATOR .. id)
    joins(subject)
  end
  if held[i] or hold_among(whose) then
    parked[id] = creation == activity and { p = policy, f = tonumber(creation), r = 'held' }
      or { p = policy, c = tonumber(creation), a = tonumber(activity), r = 'held' }
  elseif creation == activity then
    add(fresh, creation, id)
  else
    add(created, creation, id)
    add(active, activity, id)
  end
end

local found = {}
for i, id in ipairs(ids) do
  found[i] = standing(i)
  if found[i] == 'n' then
    tracked[id] = true -- said again, it is known
    arrange(i)
  end
end
if mode == 'look' then return table.concat(found) end

local refused = know(policy)
if refused then return refused end
local enforced = mode == 'adopt' and redis.call('HGET', part(policy, 'rules'), 'enforced')
if enforced and string.sub(enforced, -7) ~= ',null]}' then -- as policy/enforced.py reads it: beside the rules, none
  redis.call('HSET', part(policy, 'rules'), 'enforced', string.sub(enforced, 1, -3) .. ',null]}')
end
-- What makes an id known comes last: sent again, a call that ended in the middle does what is left.
put('ZADD', key('subjects'), owned)
put('HSET', key('facts'), facts)
put('ZADD', part(policy, 'created'), created)
put('ZADD', part(policy, 'active'), active)
put('ZADD', part(policy, 'fresh'), fresh)
for id, record in pairs(parked) do set_aside(id, record, 'parked', now) end
return table.concat(found)
