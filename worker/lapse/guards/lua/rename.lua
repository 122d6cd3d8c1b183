-- @include registry/lua/include/full
-- @include registry/lua/include/record
-- Moves ids registered under an old policy name to the policy that says "formerly".
-- ARGV[3]: policy, [4]: old name, [5]: at most; 0: moves none and returns how many there are.
-- Returns how many moved; -1: the name is not this policy's, another worker's file has it as a policy of its own.
-- @policy ARGV[3]
-- @policy ARGV[4]

local policy, old, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local moved, there = 0, 0
if redis.call('HGET', part(old, 'rules'), 'renamed') ~= policy then return -1 end
local indexes = { 'fresh', 'active', 'explicit', 'waiting', 'suspects', 'tried', 'claims', 'parked', 'kept', 'quarantine' }
for _, name in ipairs(indexes) do there = there + redis.call('ZCARD', part(old, name)) end
if limit == 0 then moved = there end
for _, name in ipairs(limit > 0 and indexes or {}) do
  for _, id in ipairs(redis.call('ZRANGE', part(old, name), 0, limit - moved - 1)) do
    local record = locate(id, { old })
    local state, score = record.s, record.d
    lift(id, record)
    record.p = policy
    if state == 'tracked' then index(id, record) else set_aside(id, record, state, score) end
    moved = moved + 1
  end
  if moved >= limit then break end
end
-- Nothing stands under the old name's rules any more: what is registered so from now on was told this policy's.
if moved >= there and (limit > 0 or there == 0) then
  redis.call('HDEL', part(old, 'rules'), 'base_at', 'base_active', 'base_created', 'base_capped', 'enforced', 'acted')
  redis.call('HSET', part(old, 'rules'), 'inherited', policy)
end
for _, name in ipairs({ 'said', 'marks' }) do -- marks: by older clients
  if redis.call('HEXISTS', key(name), 'touched|' .. old) == 1 then redis.call('HSETNX', key('said'), 'touched|' .. policy, now) end
end
return moved
