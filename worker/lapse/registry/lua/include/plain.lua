-- @include registry/lua/include/keys
-- A plain registration of an id that nothing is known of: most of them. It does what the rest of register.lua would do,
-- in half the time, and writes nothing unless it is one.
if #ARGV == 5 and ARGV[5] == '' then
  local id, policy = ARGV[3], ARGV[4]
  local at = slot .. policy .. ':'
  local named, fresh = false, true
  for _, name in ipairs(redis.call('SMEMBERS', slot .. 'policies')) do
    local there = slot .. name .. ':'
    named = named or name == policy
    if redis.call('ZSCORE', there .. 'fresh', id) or redis.call('ZSCORE', there .. 'active', id)
      or redis.call('ZSCORE', there .. 'explicit', id) then
      fresh = false
    end
  end
  if named and fresh and (redis.call('EXISTS', slot .. 'aside', slot .. 'holds', slot .. 'tombstones', slot .. 'forgotten') == 0
    or not (redis.call('HEXISTS', slot .. 'aside', id) == 1 or redis.call('HEXISTS', slot .. 'holds', id) == 1
      or redis.call('ZSCORE', slot .. 'tombstones', id) or redis.call('ZSCORE', slot .. 'forgotten', id))) then
    local clock = redis.call('TIME')
    local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
    redis.call('ZADD', at .. 'fresh', now, id)
    local rules = redis.call('HMGET', at .. 'rules', 'ttl', 'max_age', 'orphan', 'digest')
    local ttl, age = tonumber(rules[1]), tonumber(rules[2])
    local due, by = ttl or age, ttl and 'ttl' or 'max_age'
    if age and due and age < due then due, by = age, 'max_age' end
    if not due then by = rules[3] and rules[4] and 'orphan' or 'unmanaged' end
    return string.format('%.0f %s 1 %d 0', due and now + due or -1, by, rules[4] and 1 or 0)
  end
end
