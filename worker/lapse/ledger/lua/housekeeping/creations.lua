-- @include registry/lua/include/full
-- @include registry/lua/include/due
-- @include registry/lua/include/late
-- Brings the creations of a slot's touched ids into the form that the rules of their policy need, a step at a time: packed
-- into the scores of "active" where no rule, nor one enforced last, counts from them, once they are eight days old; else an index
-- of their own.
-- ARGV[3]: how many ids of a policy a step takes.
-- The field "creations" of the rules: packed; indexing while that index is built, by a walk whose cursor is in
-- "creations_cursor"; none where it is whole. While it is built, nothing is claimed by rules that count from it.
-- Returns 1 if there is more to do.

local step = tonumber(ARGV[3])

-- As they are stored: null where nothing is said.
local function counts(rule)
  local function said(name) return rule[name] ~= cjson.null and rule[name] end
  return count_from_creation({ ttl = said('ttl'), anchor = rule.anchor, max_age = said('max_age') })
end

-- The cut-offs of the rules enforced last are compared with those of an edit: their indexes have to be there until then.
local function counted_before(hash)
  local cut = redis.call('HGET', hash, 'base_created')
  if cut and cut ~= '' then return true end
  local enforced = redis.call('HGET', hash, 'enforced')
  for _, rule in ipairs(enforced and cjson.decode(enforced).rules or {}) do
    if rule ~= cjson.null and counts(rule) then return true end
  end
  return false
end

local function packed_step(policy, hash, rules)
  if rules.creations ~= 'packed' then
    redis.call('HDEL', hash, 'creations_cursor')
    redis.call('HSET', hash, 'creations', 'packed')
  end
  local old = string.format('(%.0f', now - REMEMBERED)
  local ids = redis.call('ZRANGE', part(policy, 'created'), '-inf', old, 'BYSCORE', 'LIMIT', 0, step)
  for _, id in ipairs(ids) do
    local record = in_indexes(policy, id)
    if record and record.a then
      keep_creation(id, record.c)
      packed_under[id] = policy
      index(id, record)
    end
    redis.call('ZREM', part(policy, 'created'), id)
  end
  return #ids == step
end

local function indexed_step(policy, hash, rules)
  if rules.creations == 'packed' then redis.call('HSET', hash, 'creations', 'indexing') end
  local cursor = redis.call('HGET', hash, 'creations_cursor') or '0'
  local found = redis.call('ZSCAN', part(policy, 'active'), cursor, 'COUNT', step)
  for i = 1, #found[2], 2 do
    local record = in_indexes(policy, found[2][i])
    if record and record.a then
      packed_under[found[2][i]] = nil
      index(found[2][i], record)
    end
  end
  if found[1] == '0' then
    redis.call('HDEL', hash, 'creations_cursor', 'creations')
    return false
  end
  redis.call('HSET', hash, 'creations_cursor', found[1])
  return true
end

local more = 0
for _, policy in ipairs(redis.call('SMEMBERS', key('policies'))) do
  local hash, rules = part(policy, 'rules'), rules_of(policy)
  local left = false
  if not rules.digest then
    left = false -- nothing says what they are needed for
  elseif count_from_creation(rules) then
    left = rules.creations and indexed_step(policy, hash, rules)
  elseif rules.creations == 'packed' or not counted_before(hash) then
    left = packed_step(policy, hash, rules)
  end
  if left then more = 1 end
end
return more
