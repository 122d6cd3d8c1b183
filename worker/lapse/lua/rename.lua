-- @include full
-- @include record
-- Moves ids registered under an old policy name to the policy that says "formerly", with the old partition's baseline.
-- ARGV[3]: policy, [4]: old name, [5]: at most. Returns how many moved.

local policy, old, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local moved = 0
for _, name in ipairs({ 'fresh', 'active', 'explicit', 'waiting', 'suspects', 'tried', 'claims', 'parked', 'kept', 'quarantine' }) do
  for _, id in ipairs(redis.call('ZRANGE', part(old, name), 0, limit - moved - 1)) do
    local record = locate(id, { old })
    local state, score = record.s, record.d
    take(id, record)
    record.p = policy
    if state == 'tracked' then index(id, record) else set_aside(id, record, state, score) end
    moved = moved + 1
  end
  if moved >= limit then break end
end
if redis.call('HEXISTS', part(policy, 'rules'), 'base_at') == 0 then
  for _, field in ipairs({ 'base_at', 'base_active', 'base_created', 'base_capped', 'ramp_step' }) do
    local value = redis.call('HGET', part(old, 'rules'), field)
    if value then redis.call('HSET', part(policy, 'rules'), field, value) end
  end
end
if redis.call('HEXISTS', key('marks'), 'touched|' .. old) == 1 then redis.call('HSETNX', key('marks'), 'touched|' .. policy, now) end
return moved
