-- @include registry/lua/include/due
-- What of a partition is due, oldest first, by cut-offs computed now from the rules: nothing is stored per rule.

local function at_or_before(policy, name, cut, limit)
  if not cut then return {} end
  return redis.call('ZRANGE', part(policy, name), '-inf', cut, 'BYSCORE', 'LIMIT', 0, limit)
end

-- The cut-off of each index: an id is due when its score is at or before it. nil: that index makes nothing due.
local function cutoffs(rules)
  local idle = rules.ttl and rules.anchor == 'last_active_at' and now - rules.ttl or nil
  local aged = rules.max_age and now - rules.max_age or nil
  if rules.ttl and rules.anchor == 'created_at' then
    aged = math.max(aged or -math.huge, now - rules.ttl)
  end
  local fresh = aged
  if idle then fresh = math.max(idle, aged or -math.huge) end
  return { fresh = fresh, active = idle, created = aged, explicit = now, capped = rules.max_age and now - rules.max_age }
end

local function candidates(policy, rules, limit)
  local found, seen = {}, {}
  local function add(id, record)
    local due, by = due_of(record, rules)
    if due and due <= now then
      found[#found + 1] = { id = id, record = record, due = due, by = by }
      return true
    end
  end
  for _, id in ipairs(at_or_before(policy, 'waiting', now, limit)) do
    local record = aside(id)
    if not add(id, record) and not record.o then
      unpark(id, { p = record.p, s = record.s, f = record.f, a = record.a, c = record.c, e = record.e, k = record.k, q = record.q })
    end
  end
  for name, cut in pairs(cutoffs(rules)) do
    for _, id in ipairs(at_or_before(policy, name, cut, limit)) do
      if not seen[id] then
        seen[id] = true
        local record = in_indexes(policy, id)
        if record then add(id, record) end -- none: its creation, of a registration that ended in the middle
      end
    end
  end
  table.sort(found, function(one, other)
    if one.due ~= other.due then return one.due < other.due end
    return one.id < other.id
  end)
  return found
end

-- How many are due. An id past both its ttl and its max_age stands in two indexes: the larger of the two counts.
local function due_count(policy, rules)
  local cuts = cutoffs(rules)
  local function within(name, cut)
    return cut and redis.call('ZCOUNT', part(policy, name), '-inf', cut) or 0
  end
  return within('fresh', cuts.fresh) + math.max(within('active', cuts.active), within('created', cuts.created))
    + math.max(within('explicit', cuts.explicit), within('capped', cuts.capped))
    + redis.call('ZCARD', part(policy, 'waiting')) + redis.call('ZCARD', part(policy, 'suspects'))
    + redis.call('ZCARD', part(policy, 'claims'))
end
