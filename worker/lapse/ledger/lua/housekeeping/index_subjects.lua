-- @include registry/lua/include/full
-- @include registry/lua/include/subjects
-- Finds ids by their subject that were registered by a client of an older version, one step of a slot's facts at a time.
-- ARGV[3]: how many facts a step takes, [4]: a walk that ended before then (ms) begins anew.
-- "subject_index": cursor and looked (at so many) of a walk under way, whole: when the last one came to its end.
-- Returns 1 if there is more to look at.

local stored = redis.call('HMGET', key('subject_index'), 'cursor', 'whole', 'looked')
local cursor, whole = stored[1], tonumber(stored[2] or nil)
if not cursor and whole and whole >= tonumber(ARGV[4]) then return 0 end
local found = redis.call('HSCAN', key('facts'), cursor or '0', 'COUNT', ARGV[3])
for i = 1, #found[2], 2 do
  local readable, facts = pcall(cjson.decode, found[2][i + 1])
  if readable then index_subjects(found[2][i], facts) end
end
if found[1] == '0' then
  redis.call('HDEL', key('subject_index'), 'cursor', 'looked')
  redis.call('HSET', key('subject_index'), 'whole', now)
  return 0
end
redis.call('HSET', key('subject_index'), 'cursor', found[1], 'looked', (tonumber(stored[3] or nil) or 0) + #found[2] / 2)
return 1
