-- @include registry/lua/include/full
-- @include registry/lua/include/record
-- @include registry/lua/include/subjects
-- Removes from a slot under a wrong name what was written under the right one, if it is still the same.
-- ARGV[3]: hold | id | forgotten | edge, [4]: id, or the edge, [5]: as it was seen: the stored hold, JSON of the record's
-- times, or when it was forgotten. Returns 1 if it was removed.

local what, id, seen = ARGV[3], ARGV[4], ARGV[5]
local verbs = { hold = { 'hold', 'unhold' }, forgotten = { 'forget', 'release' }, id = { 'register', 'expire' }, edge = {} }
for _, verb in ipairs(verbs[what]) do redis.call('ZREM', key('last_said'), verb .. '|' .. id) end
if what == 'hold' then
  if redis.call('HGET', key('holds'), id) ~= seen then return 0 end
  redis.call('ZREM', key('hold_ends'), id)
  return redis.call('HDEL', key('holds'), id)
end
if what == 'forgotten' then
  if redis.call('ZSCORE', key('forgotten'), id) ~= seen then return 0 end
  return redis.call('ZREM', key('forgotten'), id)
end
if what == 'edge' then return redis.call('ZREM', key('edges'), id) end
local record, same = locate(id), cjson.decode(seen)
if not record then return 0 end
for _, field in ipairs({ 'f', 'a', 'c', 'e', 'k' }) do
  if record[field] ~= same[field] then return 0 end
end
take(id, record)
unindex_subjects(id, facts_of(id))
redis.call('HDEL', key('facts'), id)
local stands = 0
for _, name in ipairs({ 'fresh', 'active', 'explicit', 'claims', 'waiting', 'parked', 'kept', 'quarantine' }) do
  stands = stands + redis.call('EXISTS', part(record.p, name))
end
if stands == 0 then redis.call('SREM', key('policies'), record.p) end
return 1
