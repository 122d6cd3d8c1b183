-- @include registry/lua/include/edges
-- @include registry/lua/include/parking
-- @include registry/lua/include/protection
-- Claims: leasing an id to one worker, and what happens when the lease runs out.

-- Parks an id that must not be deleted now, and lets one go that was forgotten under an earlier claim; returns why, or nil.
local function guarded(id, record)
  if record.g then
    take(id, record)
    untrack(id, record)
    return 'forgotten'
  end
  local reason
  if held(id) then
    reason = 'held'
  elseif protected(id, redis.call('HGET', part(record.p, 'rules'), 'along') or nil) then
    reason = 'referenced'
  end
  if not reason then return nil end
  if record.q then
    take(id, record)
  else
    lift(id, record)
    record.r = reason
    set_aside(id, record, 'parked', now)
  end
  return reason
end

-- How many ids may be claimed for the kind's breaker: any number, or one now and then while it is open.
local breaker
local function let_through()
  breaker = breaker or tonumber(redis.call('HGET', key('marks'), 'shut_until') or nil) or -1
  if breaker < 0 then return math.huge end
  return now < breaker and 0 or 1
end

-- The token of new leases: more than any before. By Redis TIME, so that a registry that went back to before a claim, after
-- a crash or a failover, does not give that claim's token to another one: both workers' outcomes would be taken for one's.
local function next_token()
  local last = tonumber(redis.call('HGET', key('marks'), 'fence') or nil) or 0
  local token = math.max(last + 1, now)
  redis.call('HSET', key('marks'), 'fence', string.format('%.0f', token))
  return token
end

local function grant(id, record, token, lease, why)
  if let_through() == 1 then redis.call('HSET', key('marks'), 'shut_until', now + 10000) end
  local before = places(record)
  record.t, record.r = token, nil
  set_aside(id, record, 'claimed', now + lease)
  remove(id, before) -- last: wherever the script may end, the id stands somewhere
  audit('intent', id, record.p, string.format(',"token":%.0f,"attempt":%d%s', token, (record.n or 0) + 1, why))
end

local function quarantine(id, record, reason, detail)
  record.r, record.t, record.m = reason, nil, detail
  set_aside(id, record, 'quarantined', now)
end

-- Lets an id that was registered under another policy while it was claimed stand there. Nothing stood under that name
-- until now, so that housekeeping may have ended it; whatever stands under no name that is known is found by nobody.
local function move_on(record)
  if record.l then redis.call('SADD', key('policies'), record.l) end
  record.p, record.l = record.l or record.p, nil
end

-- A lease that ran out counts a crash, not an attempt; ids with a crash are claimed one at a time from then on.
local function lapse(id, record)
  local foreign = record.z and record.q
  if record.g or foreign then take(id, record) else lift(id, record) end
  local items, field = progress(id, record.t)
  audit('lapsed', id, record.p, string.format(',"token":%.0f', record.t) .. (items > 0 and string.format(',"items":%.0f', items) or ''))
  if items > 0 then redis.call('HDEL', key('counters'), field) end
  count('crashes|' .. record.p)
  if record.x then record.y = (record.y or 0) + 1 end
  record.x, record.u, record.t, record.o = (record.x or 0) + 1, 1, nil, not record.z and record.o or nil
  move_on(record)
  record.z = nil
  if record.g or foreign then
    untrack(id, record)
  elseif (record.y or 0) >= 3 then
    quarantine(id, record, 'crashes', 'three workers ended while deleting it alone')
  elseif held(id) then
    record.r = 'held'
    set_aside(id, record, 'parked', now)
  else
    set_aside(id, record, 'waiting', now)
  end
end

local function lapsed(policy, limit)
  for _, id in ipairs(redis.call('ZRANGE', part(policy, 'claims'), '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)) do
    local record = aside(id)
    -- A batch that was cut off just before it had left the place, and whose worker ended then, has no claim there.
    if record and record.s == 'claimed' then lapse(id, record) else redis.call('ZREM', part(policy, 'claims'), id) end
  end
end

-- What a keep rule kept is looked at again: its name or metadata may have changed.
local function look_again(policy)
  for _, id in ipairs(redis.call('ZRANGE', part(policy, 'kept'), '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
    unpark(id, aside(id))
  end
end

-- Where no listing comes any more, what a deletion as an orphan was tried of is a resource like any other.
local function unlisted(policy)
  for _, id in ipairs(redis.call('ZRANGE', part(policy, 'tried'), 0, 99)) do
    local record = aside(id)
    lift(id, record)
    record.o = nil
    set_aside(id, record, 'waiting', record.d)
  end
end

local function end_holds()
  for _, id in ipairs(redis.call('ZRANGE', key('hold_ends'), '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
    redis.call('ZREM', key('hold_ends'), id)
    redis.call('HDEL', key('holds'), id)
    local record = aside(id)
    let_go(id, record)
    audit('hold_ended', id, record and record.p or '')
  end
end

-- Halts that stop one worker or some ids, and no claim of the others: as memory.BESIDE.
local beside = { config_divergence = true, older_than_registry = true, principal_unproven = true }

-- Halts of a rule, and not of its ids: under another name they are found anew.
local of_a_rule = { cutoff_jumped = true, orphan_share = true }

-- The name that a policy has now, after it was renamed.
local function called_now(policy)
  for _ = 1, 64 do
    local later = redis.call('HGET', part(policy, 'rules'), 'renamed')
    if not later then break end
    policy = later
  end
  return policy
end

-- The reasons for which a partition is halted, under whatever name of its policy they were found.
local function halted(policy)
  local reasons, seen = {}, {}
  for _, field in ipairs(redis.call('HKEYS', key('halts'))) do
    local scope, reason = string.match(field, '^(.*)|(.*)$')
    local mine = scope == policy or scope == '*' or (not of_a_rule[reason] and called_now(scope) == called_now(policy))
    if mine and not beside[reason] and not seen[reason] then
      reasons[#reasons + 1], seen[reason] = reason, true
    end
  end
  return reasons
end

-- True if touched ids stand under a name, and the index of their creations is not whole.
local function unindexed(name, creations)
  return creations and redis.call('EXISTS', part(name, 'active')) == 1
end

-- True if rules count from creations, and the index of these is not whole: the policy's own, or that of a name which it
-- takes over, whose ids an edit's guard counts where they stand.
local function indexing(policy, creations, rules)
  if not count_from_creation(rules) then return false end
  if unindexed(policy, creations) then return true end
  for _, name in ipairs(redis.call('SMEMBERS', key('policies'))) do
    local there = redis.call('HMGET', part(name, 'rules'), 'renamed', 'creations')
    if there[1] == policy and unindexed(name, there[2]) then return true end
  end
  return false
end

-- Why nothing of this partition may be claimed now, or nil. A claim insists on the epoch that its rules were adopted
-- under, and on the Redis TIME that its worker expects; '' or nil: on none.
local function barred(policy, digest, epoch, earliest, latest)
  if #halted(policy) > 0 then return 'halted' end
  local rules = redis.call('HMGET', part(policy, 'rules'), 'digest', 'epoch', 'creations', 'ttl', 'anchor', 'max_age')
  if epoch and epoch ~= '' and rules[2] ~= epoch then return 'lost' end
  if rules[1] ~= digest then return 'superseded' end
  if indexing(policy, rules[3], { ttl = rules[4], anchor = rules[5], max_age = rules[6] }) then return 'indexing' end
  if #damaged() > 0 then return 'damaged' end
  if tonumber(earliest) and (now < tonumber(earliest) or now > tonumber(latest)) then return 'clock' end
  if let_through() == 0 then return 'breaker' end
end
