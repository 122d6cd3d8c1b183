-- @include full
-- @include record
-- Makes rules the ones a partition is swept with, and publishes them to applications.
-- ARGV[3]: policy, [4]: digest, [5]: the worker's name, the same for all its processes, [6]: JSON of ttl, anchor, max_age, orphan, along, mode,
-- [7]: formerly (JSON list), [8]: the registry's epoch, or '', [9]: how long it is remembered what a worker swept with (ms).
-- Returns adopted | current | divergence (these rules were superseded: another worker has newer ones).

local policy, digest, epoch = ARGV[3], ARGV[4], ARGV[8]
local rules = part(policy, 'rules')

-- What this worker swept with before. Its processes share that: the one that has not seen a changed file yet, and the
-- one that has, would each look outdated to the other.
local used = part(policy, 'used') .. ':' .. ARGV[5]
local last, before = string.match(redis.call('GET', used) or '', '^(%S*) ?(%S*)$')
if last and last ~= '' and last ~= digest then before = last end
redis.call('SET', used, digest .. ' ' .. (before or ''), 'PX', ARGV[9])

local stored = redis.call('HMGET', rules, 'digest', 'superseded', 'epoch')
local current, superseded = stored[1], stored[2] or ''
if epoch ~= '' and stored[3] ~= epoch then redis.call('HSET', rules, 'epoch', epoch) end
if current == digest then return 'current' end
if string.find(superseded, digest, 1, true) then
  if before ~= current then return 'divergence' end
  superseded = string.gsub(superseded, digest .. ' ?', '')
end
if current then superseded = string.sub(current .. ' ' .. superseded, 1, 800) end
redis.call('HSET', rules, 'digest', digest, 'superseded', superseded, 'since', now)
redis.call('HDEL', rules, 'ttl', 'anchor', 'max_age', 'orphan', 'along')
local published = cjson.decode(ARGV[6])
for field, value in pairs(published) do redis.call('HSET', rules, field, value) end
-- An application that still says the old name is told the new rule.
for _, old in ipairs(cjson.decode(ARGV[7])) do
  redis.call('HSET', part(old, 'rules'), 'digest', digest, 'renamed', policy)
  for field, value in pairs(published) do redis.call('HSET', part(old, 'rules'), field, value) end
end
for _, id in ipairs(redis.call('ZRANGE', part(policy, 'kept'), 0, 999)) do redis.call('ZADD', part(policy, 'kept'), 'XX', now, id) end
-- What was parked because of the kind that goes along from now on is looked at again.
for _, id in ipairs(published.along and redis.call('ZRANGE', part(policy, 'parked'), 0, 999) or {}) do
  local record = aside(id)
  if record.r == 'referenced' then unpark(id, record) end
end
redis.call('SADD', key('policies'), policy)
audit('rules', '', policy, ',"rules":' .. text(digest) .. ',"before":' .. text(current or ''))
return 'adopted'
