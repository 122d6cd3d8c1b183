-- @include candidates
-- @include lease
-- What a sweep needs to know before it acts. ARGV[3]: policy, [4]: digest.
-- Returns JSON: now, bar, halts (reasons), registered, due, oldest (due time), newly_due, baseline, touched, edges,
-- place (of the account whose ids these are), the cut-offs of now (active, created, capped) and of the last enforced sweep,
-- moved on by the clock (old_active, old_created, old_capped).

local policy, digest = ARGV[3], ARGV[4]
local rules = rules_of(policy)
local cuts = cutoffs(rules)
local base = redis.call('HMGET', part(policy, 'rules'), 'base_at', 'base_active', 'base_created', 'base_capped')
local base_at, base_active, base_created, base_capped = tonumber(base[1]), tonumber(base[2]), tonumber(base[3]), tonumber(base[4])

local function size(name) return redis.call('ZCARD', part(policy, name)) end

-- Due by the cut-offs of now, and not by those of the last enforced sweep moved on by the clock.
local function newly(name, cut, old)
  if not cut then return 0 end
  local from = old and '(' .. string.format('%.0f', old) or '-inf'
  return redis.call('ZCOUNT', part(policy, name), from, cut)
end

local function newly_due()
  local moved = base_at and now - base_at or 0
  local active = base_active and base_active + moved
  local created = base_created and base_created + moved
  local fresh = active or created
  if active and created then fresh = math.max(active, created) end
  return newly('fresh', cuts.fresh, fresh) + newly('active', cuts.active, active) + newly('created', cuts.created, created)
    + newly('capped', cuts.capped, base_capped and base_capped + moved)
end

local function oldest()
  local first = candidates(policy, rules, 1)[1]
  return first and first.due
end

local registered = 0
for _, name in ipairs({ 'fresh', 'active', 'explicit', 'claims', 'waiting', 'suspects', 'tried', 'parked', 'kept', 'quarantine' }) do
  registered = registered + size(name)
end
local marks = redis.call('HMGET', key('marks'), 'touched|' .. policy, 'edges', 'place')
return cjson.encode({
  now = now, bar = barred(policy, digest), halts = halted(policy), registered = registered, due = due_count(policy, rules), oldest = oldest(),
  newly_due = newly_due(), baseline = base_at and true or false,
  touched = marks[1] and true or false, edges = marks[2] and true or false,
  active = cuts.active, created = cuts.created, old_active = base_active and base_active + now - base_at,
  old_created = base_created and base_created + now - base_at,
  capped = cuts.capped, old_capped = base_capped and base_capped + now - base_at, place = marks[3] or nil,
})
