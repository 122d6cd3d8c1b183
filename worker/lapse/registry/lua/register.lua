-- @include registry/lua/include/plain
-- @include registry/lua/include/due
-- @include registry/lua/include/late
-- @include registry/lua/include/uses
-- @include registry/lua/include/subjects
-- @include registry/lua/include/policies
-- @include registry/lua/include/plain_many
-- Tracks ids: creates, or on a tracked id touches, updates the facts given and moves it to the policy named.
-- ARGV[3...]: triples of id, policy, facts ('' or JSON: created, active, at, within (ms), uses, subject (text, or a list
-- of several), labels, said: when it was said, if it comes late).
-- Returns of a single one a line: due (-1: nothing says so), governed by, 1 if new, 1 if managed, 1 if it kept another subject;
-- of several: how many, how many new, how many managed, how many kept another subject. Late ones come alone; one that was
-- overtaken says so.
-- @policy ARGV[4...+3]

-- Where nothing was ever held, claimed, settled or forgotten, a new id needs not be looked for there.
local quiet = redis.call('EXISTS', key('aside'), key('holds'), key('tombstones'), key('forgotten')) == 0 and not any_subject_held()

local function known(id)
  if not quiet and redis.call('HEXISTS', key('aside'), id) == 1 then return true end
  for _, policy in ipairs(policies) do
    if redis.call('ZSCORE', part(policy, 'fresh'), id) then return true end
    if redis.call('ZSCORE', part(policy, 'active'), id) then return true end
    if redis.call('ZSCORE', part(policy, 'explicit'), id) then return true end
  end
  return false
end

-- True if two "subject" facts name the same, in the same order.
local function same_subject(one, other)
  return table.concat(subjects_in({ subject = one }), SEPARATOR) == table.concat(subjects_in({ subject = other }), SEPARATOR)
end

local function touched(record, facts)
  local active = facts.active or facts.moment
  if record.e then return end
  if record.f then
    record.a, record.c, record.f = math.max(record.f, active), record.f, nil
    redis.call('HSETNX', key('said'), 'touched|' .. record.p, now)
  else
    record.a = math.max(record.a, active)
  end
end

local function created(policy, facts)
  local record = { p = policy }
  local creation_time, activity = facts.created or facts.moment, facts.active or facts.moment
  if creation_time == activity then
    record.f = creation_time
  else
    record.c, record.a = creation_time, math.max(creation_time, activity)
  end
  return record
end

local function same(one, other)
  for name, value in pairs(one) do
    if other[name] ~= value then return false end
  end
  for name in pairs(other) do
    if one[name] == nil then return false end
  end
  return true
end

-- Returns an id's facts with those given, or nil where there is nothing to store; true if it keeps another subject than
-- is given, for whose data a tracked id is no registration changes; and the subject of an earlier life that it loses.
local function merged(id, facts, tracked)
  if not (facts.uses or facts.subject or facts.labels) then return nil, false end
  local kept = facts_of(id) or {}
  local before, labels = kept.subject, kept.labels or {}
  if facts.subject and not (tracked and before) then kept.subject = facts.subject end
  kept.labels = not facts.older and facts.labels or kept.labels or facts.labels
  facts.changes = not same_subject(before, kept.subject) or not same(kept.labels or {}, labels)
  if facts.uses then kept.uses = add(kept.uses or {}, facts.uses) end
  local other = facts.subject ~= nil and not same_subject(kept.subject, facts.subject)
  return kept, other, not same_subject(before, kept.subject) and before or nil
end

local function remember(id, facts, kept, lost)
  if not kept then return end
  if facts.uses then use_again(id, facts.uses) end
  if lost then unindex_subjects(id, { subject = lost }) end
  index_subjects(id, kept) -- first: an entry without the fact is passed over, a fact without an entry is not found
  redis.call('HSET', key('facts'), id, cjson.encode(kept))
end

local function expiry(record, facts)
  local at = facts.at or (facts.within and facts.moment + facts.within)
  if at then
    record.e, record.k = at, creation(record)
    record.f, record.a, record.c = nil, nil, nil
  end
end

local function track(id, policy, facts, kept)
  local record = created(policy, facts)
  if facts.created and (facts.at or facts.within) then remember_said('expire', id, facts.moment) end
  expiry(record, facts)
  if quiet then
    index(id, record)
    return record
  end
  if redis.call('ZREM', key('tombstones'), id) == 1 then redis.call('HDEL', key('graves'), id) end
  if redis.call('ZREM', key('forgotten'), id) == 1 then redis.call('HDEL', key('unlisted'), id) end
  if redis.call('HEXISTS', key('holds'), id) == 1 or hold_among(subjects_in(kept)) then
    record.r = 'held'
    set_aside(id, record, 'parked', now)
  else
    index(id, record)
  end
  return record
end

-- A late registration says less than what was said after it.
local function yield_to_newer(id, record, facts)
  if not facts.late then return end
  facts.older = math.max(last_said(id, 'register'), not record.q and creation(record) or 0) > facts.moment
  if facts.older or last_said(id, 'expire') > facts.moment then facts.at, facts.within = nil, nil end
end

-- A late registration of an id that was let go of since is none. Its object may live on, and needs then what it uses.
local function let_go(id, record, facts)
  if not facts.late or let_go_at(id) < facts.moment or (record and not record.g and not record.q) then return false end
  if facts.uses and (last_said(id, 'release') >= facts.moment or redis.call('ZSCORE', key('tombstones'), id)) then
    take_back(id, facts.uses)
  elseif facts.uses then
    remember(id, { uses = facts.uses }, (merged(id, { uses = facts.uses })))
  end
  return true
end

local function update(id, record, policy, facts)
  local state, score = record.s, record.d
  if facts.older then policy = record.l or record.p end
  if facts.changes or policy ~= (record.l or record.p) then remember_said('register', id, facts.moment) end
  if facts.at or facts.within then remember_said('expire', id, facts.moment) end
  if state ~= 'claimed' then lift(id, record) end
  if record.q then record.f = facts.moment else touched(record, facts) end
  expiry(record, facts)
  if record.g or record.q then redis.call('ZREM', key('forgotten'), id) end
  record.g, record.q, record.o, record.v, record.b = nil, nil, nil, nil, nil
  if state == 'claimed' then -- where it stands is the worker's: it moves when the claim ends
    record.l = policy ~= record.p and policy or nil
    return amend(id, record)
  end
  record.p = policy
  if state == 'tracked' then index(id, record) else set_aside(id, record, state, score) end
end

local nothing, fresh, managed, keeping = {}, 0, 0, 0
local last

local function register(id, policy, given)
  local facts = given ~= '' and cjson.decode(given) or nothing
  facts.moment, facts.late = said_at(facts.said)
  local record = known(id) and locate(id, policies) or nil
  if let_go(id, record, facts) then return '-1 overtaken 0 0' end
  if record then yield_to_newer(id, record, facts) end
  local kept, other, lost = merged(id, facts, record ~= nil)
  if kept and facts.uses and #kept.uses > 20000 then
    take_back(id, facts.uses)
    return redis.error_reply('LAPSE-USES ' .. id .. ' would use more than 20000 others')
  end
  local refused = know(policy)
  if refused then return refused end
  if record then
    redis.pcall('HDEL', KEYS[1], '') -- a full Redis refuses new ids; this one is touched, as full.lua has it
    last = record
    update(id, last, policy, facts)
  else
    last = track(id, policy, facts, kept)
    fresh = fresh + 1
  end
  if other then keeping = keeping + 1 end
  remember(id, facts, kept, lost)
end

local plain = #ARGV > 5 and register_plain_ones() or {}

for i = 3, #ARGV, 3 do
  local id, policy = ARGV[i], ARGV[i + 1]
  if plain[id] then
    fresh = fresh + 1
  else
    local ended = register(id, policy, ARGV[i + 2])
    if ended then return ended end
  end
  if rules_of(policy).digest then managed = managed + 1 end
end

if #ARGV > 5 then return { (#ARGV - 2) / 3, fresh, managed, keeping } end
local due, by = due_of(last, rules_of(last.l or last.p))
if last.r == 'held' then due, by = nil, 'hold' end
if last.s == 'claimed' then by = 'claimed' end
return string.format('%.0f %s %d %d %d', due or -1, by, fresh, managed, keeping)
