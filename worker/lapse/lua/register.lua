-- @include due
-- Tracks ids: creates, or on a tracked id touches, updates the facts given and moves it to the policy named.
-- ARGV[3...]: triples of id, policy, facts ('' or JSON: created, active, at, within (ms), uses, subject, labels).
-- Returns for each: due (-1: nothing says so), governed by, 1 if new, 1 if managed.

local policies = redis.call('SMEMBERS', key('policies'))
local replies = {}

local function know(policy)
  for _, name in ipairs(policies) do
    if name == policy then return end
  end
  if #policies >= 64 then
    return redis.error_reply('LAPSE-POLICIES 64 policy names are in use: a policy is a rule, not data')
  end
  redis.call('SADD', key('policies'), policy)
  policies[#policies + 1] = policy
end

local function touched(record, facts)
  local active = facts.active or now
  if record.e then return end
  if record.f then
    record.a, record.c, record.f = math.max(record.f, active), record.f, nil
    redis.call('HSETNX', key('marks'), 'touched|' .. record.p, now)
  else
    record.a = math.max(record.a, active)
  end
end

local function created(policy, facts)
  local record = { p = policy }
  local creation_time, activity = facts.created or now, facts.active or now
  if creation_time == activity then
    record.f = creation_time
  else
    record.c, record.a = creation_time, math.max(creation_time, activity)
  end
  return record
end

local function remember(id, facts)
  if not (facts.uses or facts.subject or facts.labels) then return end
  local stored = redis.call('HGET', key('facts'), id)
  local kept = stored and cjson.decode(stored) or {}
  kept.subject = facts.subject or kept.subject
  kept.labels = facts.labels or kept.labels
  if facts.uses then
    kept.uses = kept.uses or {}
    for _, edge in ipairs(facts.uses) do
      local known = false
      for _, other in ipairs(kept.uses) do known = known or other == edge end
      if not known then kept.uses[#kept.uses + 1] = edge end
    end
  end
  redis.call('HSET', key('facts'), id, cjson.encode(kept))
end

local function expiry(record, facts)
  local at = facts.at or (facts.within and now + facts.within)
  if at then
    record.e, record.k = at, creation(record)
    record.f, record.a, record.c = nil, nil, nil
  end
end

local function track(id, policy, facts)
  local record = created(policy, facts)
  if redis.call('ZREM', key('tombstones'), id) == 1 then redis.call('HDEL', key('graves'), id) end
  redis.call('ZREM', key('forgotten'), id)
  expiry(record, facts)
  if redis.call('HEXISTS', key('holds'), id) == 1 then
    record.r = 'held'
    set_aside(id, record, 'parked', now)
  else
    index(id, record)
  end
  return record
end

local function update(id, record, policy, facts)
  local state, score = record.s, record.d
  take(id, record)
  if record.q then record.f = now else touched(record, facts) end
  expiry(record, facts)
  record.p, record.g, record.q, record.o = policy, nil, nil, nil
  if state == 'tracked' then index(id, record) else set_aside(id, record, state, score) end
end

local function reply(record, new)
  local rules = rules_of(record.p)
  local due, by = due_of(record, rules)
  if record.r == 'held' then due, by = nil, 'hold' end
  if record.s == 'claimed' then by = 'claimed' end
  replies[#replies + 1] = due or -1
  replies[#replies + 1] = by
  replies[#replies + 1] = new and 1 or 0
  replies[#replies + 1] = rules.digest and 1 or 0
end

for i = 3, #ARGV, 3 do
  local id, policy = ARGV[i], ARGV[i + 1]
  local facts = ARGV[i + 2] ~= '' and cjson.decode(ARGV[i + 2]) or {}
  local refused = know(policy)
  if refused then return refused end
  local record = locate(id, policies)
  local new = record == nil
  if new then record = track(id, policy, facts) else update(id, record, policy, facts) end
  remember(id, facts)
  reply(record, new)
end
return replies
