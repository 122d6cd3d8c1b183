-- @include registry/lua/include/record
-- The rules of a partition as the worker published them, and when they make a record due.

local rules_seen = {}

local function rules_of(policy)
  local known = rules_seen[policy]
  if not known then
    local values = redis.call('HMGET', part(policy, 'rules'), 'ttl', 'anchor', 'max_age', 'orphan', 'digest', 'mode', 'creations')
    known = { ttl = tonumber(values[1]), anchor = values[2], max_age = tonumber(values[3]),
              orphan = values[4], digest = values[5], mode = values[6], creations = values[7] }
    rules_seen[policy] = known
  end
  return known
end

-- Returns when the record becomes due (nil: nothing says so) and which rule says it.
local function due_of(record, rules)
  local due, by
  if record.e then
    due, by = record.e, 'expires_at'
  elseif rules.ttl and (record.f or record.a) then
    due = (rules.anchor == 'created_at' and creation(record) or record.f or record.a) + rules.ttl
    by = 'ttl'
  end
  if rules.max_age and creation(record) and (not due or creation(record) + rules.max_age < due) then
    due, by = creation(record) + rules.max_age, 'max_age'
  end
  if due then return due, by end
  if not rules.digest then return nil, 'unmanaged' end
  return nil, rules.orphan and 'orphan' or 'unmanaged'
end
