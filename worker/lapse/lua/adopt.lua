-- @include slot
-- Makes rules the ones a partition is swept with, and publishes them to applications.
-- ARGV[3]: policy, [4]: digest, [5]: digest this worker used before or '', [6]: JSON of ttl, anchor, max_age, orphan, mode, [7]: formerly (JSON list).
-- Returns adopted | current | divergence (these rules were superseded: another worker has newer ones).

local policy, digest, before = ARGV[3], ARGV[4], ARGV[5]
local rules = part(policy, 'rules')
local stored = redis.call('HMGET', rules, 'digest', 'superseded')
local current, superseded = stored[1], stored[2] or ''
if current == digest then return 'current' end
if string.find(superseded, digest, 1, true) then
  if before ~= current then return 'divergence' end
  superseded = string.gsub(superseded, digest .. ' ?', '')
end
if current then superseded = string.sub(current .. ' ' .. superseded, 1, 800) end
redis.call('HSET', rules, 'digest', digest, 'superseded', superseded, 'since', now)
redis.call('HDEL', rules, 'ttl', 'anchor', 'max_age', 'orphan')
local published = cjson.decode(ARGV[6])
for field, value in pairs(published) do redis.call('HSET', rules, field, value) end
-- An application that still says the old name is told the new rule.
for _, old in ipairs(cjson.decode(ARGV[7])) do
  redis.call('HSET', part(old, 'rules'), 'digest', digest, 'renamed', policy)
  for field, value in pairs(published) do redis.call('HSET', part(old, 'rules'), field, value) end
end
for _, id in ipairs(redis.call('ZRANGE', part(policy, 'kept'), 0, 999)) do redis.call('ZADD', part(policy, 'kept'), 'XX', now, id) end
redis.call('SADD', key('policies'), policy)
audit('rules', '', policy, ',"rules":' .. text(digest) .. ',"before":' .. text(current or ''))
return 'adopted'
