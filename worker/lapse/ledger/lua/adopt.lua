-- @include registry/lua/include/full
-- @include registry/lua/include/record
-- Makes rules the ones a partition is swept with, and publishes them to applications.
-- ARGV[3]: policy, [4]: digest, [5]: the worker's name, the same for all its processes, [6]: JSON of ttl, anchor, max_age, orphan, along, mode,
-- [7]: formerly (JSON list), [8]: the registry's epoch, or '', [9]: how long it is remembered what a worker swept with (ms).
-- Returns adopted | current | divergence (these rules were superseded: another worker has newer ones).
-- @policy ARGV[3]
-- @policy ARGV[7]
-- @part used:ARGV[5]

local policy, digest, epoch = ARGV[3], ARGV[4], ARGV[8]
local rules = part(policy, 'rules')

-- Whether this worker may make its digest that of a name: current | adopted | divergence, and the digest so far.
-- What it swept with before is remembered. Its processes share that: the one that has not seen a changed file yet, and
-- the one that has, would each look outdated to the other. No rule at all (retire.lua) counts as a digest: "-".
local function taken(name)
  local used = part(name, 'used') .. ':' .. ARGV[5]
  local last, before = string.match(redis.call('GET', used) or '', '^(%S*) ?(%S*)$')
  if last and last ~= '' and last ~= digest then before = last end
  redis.call('SET', used, digest .. ' ' .. (before or ''), 'PX', ARGV[9])
  local stored = redis.call('HMGET', part(name, 'rules'), 'digest', 'superseded')
  local current, superseded = stored[1], stored[2] or ''
  if current == digest then return 'current', current end
  if string.find(superseded, digest, 1, true) then
    -- The rules last enforced are never old while those in force wait for an approval: whoever brings them back puts the edit back.
    local waiting = redis.call('HEXISTS', key('halts'), name .. '|cutoff_jumped') == 1
    local put_back = waiting and redis.call('HGET', part(name, 'rules'), 'acted') == digest
    if before ~= (current or '-') and not put_back then return 'divergence', current end
    superseded = string.gsub(superseded, digest .. ' ?', '')
  end
  redis.call('SET', used, digest, 'PX', ARGV[9]) -- its change is made: the worker that still has what it replaced is old
  if current then superseded = string.sub(current .. ' ' .. superseded, 1, 800) end
  redis.call('HSET', part(name, 'rules'), 'digest', digest, 'superseded', superseded)
  return 'adopted', current
end

if epoch ~= '' and redis.call('HGET', rules, 'epoch') ~= epoch then redis.call('HSET', rules, 'epoch', epoch) end
local status, current = taken(policy)
if status == 'divergence' then return status end
local published = cjson.decode(ARGV[6])

-- Halts of one worker, of some ids or of a rule, which are found anew: the guards look at what is taken over.
local anew = { config_divergence = true, older_than_registry = true, principal_unproven = true, cutoff_jumped = true, orphan_share = true }

-- A halt of an old name stands under the new one too, as it was. Both end together: ledger/halts.py.
local function inherit_halts(old)
  for _, field in ipairs(redis.call('HKEYS', key('halts'))) do
    local scope, reason = string.match(field, '^(.*)|(.*)$')
    if scope == old and not anew[reason] then
      redis.call('HSETNX', key('halts'), policy .. '|' .. reason, redis.call('HGET', key('halts'), field))
    end
  end
end

-- The last answers of an old name count with the policy's own.
local function inherit_window(old)
  local there, here = redis.call('HMGET', part(old, 'rules'), 'wall', 'wall_since'), redis.call('HMGET', rules, 'wall', 'wall_since')
  if not there[1] or not there[2] then return end
  local since = math.min(tonumber(there[2]), tonumber(here[2] or there[2]))
  redis.call('HSET', rules, 'wall', string.sub(there[1] .. (here[1] or ''), -4000), 'wall_since', string.format('%.0f', since))
end

-- The window of max_deletions goes on: the one that began last, with no fewer deletions than the policy's own has.
local paced = redis.call('HGET', rules, 'pace_from') and true
local function inherit_pace(old)
  local fields = { 'pace_from', 'pace_used', 'pace_fence' }
  local there, here = redis.call('HMGET', part(old, 'rules'), unpack(fields)), redis.call('HMGET', rules, unpack(fields))
  if not there[1] or tonumber(there[1]) <= tonumber(here[1] or -1) then return end
  local used = math.max(tonumber(there[2] or 0), paced and tonumber(here[2] or 0) or 0)
  redis.call('HSET', rules, 'pace_from', there[1], 'pace_used', string.format('%.0f', used), 'pace_fence', there[3] or 0)
end

-- An application that still says the old name is told the new rule, and a worker that has it as a policy of its own
-- sweeps with superseded rules: unless these are newer, it is this policy's name from now on.
for _, old in ipairs(cjson.decode(ARGV[7])) do
  local answer = taken(old)
  local name = redis.call('HGET', part(old, 'rules'), 'renamed')
  if answer ~= 'divergence' and (answer == 'adopted' or name ~= policy) then
    redis.call('HDEL', part(old, 'rules'), 'ttl', 'anchor', 'max_age', 'orphan', 'along', name ~= policy and 'inherited' or 'ttl')
    redis.call('HSET', part(old, 'rules'), 'renamed', policy)
    if name ~= policy then
      inherit_window(old)
      inherit_pace(old)
    end
    for field, value in pairs(published) do redis.call('HSET', part(old, 'rules'), field, value) end
  end
  if redis.call('HGET', part(old, 'rules'), 'renamed') == policy then inherit_halts(old) end
end
if status == 'current' then return status end
redis.call('HSET', rules, 'since', now)
redis.call('HDEL', rules, 'ttl', 'anchor', 'max_age', 'orphan', 'along', 'renamed', 'inherited')
for field, value in pairs(published) do redis.call('HSET', rules, field, value) end
for _, id in ipairs(redis.call('ZRANGE', part(policy, 'kept'), 0, 999)) do redis.call('ZADD', part(policy, 'kept'), 'XX', now, id) end
-- What was parked because of the kind that goes along from now on is looked at again.
for _, id in ipairs(published.along and redis.call('ZRANGE', part(policy, 'parked'), 0, 999) or {}) do
  local record = aside(id)
  if record.r == 'referenced' then unpark(id, record) end
end
redis.call('SADD', key('policies'), policy)
audit('rules', '', policy, ',"rules":' .. text(digest) .. ',"before":' .. text(current or ''))
return 'adopted'
