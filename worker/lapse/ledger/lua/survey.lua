-- @include ledger/lua/include/candidates
-- @include ledger/lua/include/lease
-- What a sweep needs to know before it acts. ARGV[3]: policy, [4]: digest.
-- Returns JSON: now, bar, halts (reasons), registered, due, oldest (due time), touched, edges,
-- place (of the account whose ids these are), fence (the last token given), the cut-offs of now (active, created, capped),
-- own_expiry and kept (how many), since (when these rules were adopted), enforced and base: the rules, and the cut-offs,
-- of the last enforced sweep, as they are stored.
-- @policy ARGV[3]

local policy, digest = ARGV[3], ARGV[4]
local rules = rules_of(policy)
local cuts = cutoffs(rules)
local base = redis.call('HMGET', part(policy, 'rules'), 'base_at', 'base_active', 'base_created', 'base_capped', 'enforced', 'since')

local function size(name) return redis.call('ZCARD', part(policy, name)) end

local function oldest()
  local first = candidates(policy, rules, 1)[1]
  return first and first.due
end

local registered = 0
for _, name in ipairs({ 'fresh', 'active', 'explicit', 'claims', 'waiting', 'suspects', 'tried', 'parked', 'kept', 'quarantine' }) do
  registered = registered + size(name)
end
local marks = redis.call('HMGET', key('marks'), 'touched|' .. policy, 'edges', 'place', 'fence') -- the first two by older clients
local said = redis.call('HMGET', key('said'), 'touched|' .. policy, 'edges')
return cjson.encode({
  now = now, bar = barred(policy, digest), halts = halted(policy), registered = registered, due = due_count(policy, rules), oldest = oldest(),
  touched = (said[1] or marks[1]) and true or false, edges = (said[2] or marks[2]) and true or false, place = marks[3] or nil, fence = tonumber(marks[4]) or 0,
  active = cuts.active, created = cuts.created, capped = cuts.capped,
  own_expiry = size('explicit'), kept = size('kept'), since = tonumber(base[6]) or 0, enforced = base[5] or nil,
  base = tonumber(base[1]) and { at = tonumber(base[1]), active = tonumber(base[2]), created = tonumber(base[3]), capped = tonumber(base[4]) } or nil,
})
