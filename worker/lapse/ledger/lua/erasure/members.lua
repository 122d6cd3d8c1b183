-- @include registry/lua/include/erasures
-- The ids of a subject that a request to erase it is to delete: tracked, or settled as gone and remembered, and created before a time.
-- ARGV[3]: subject, [4]: the time (ms), [5]: after this id, or '', [6]: how many to look at.
-- Returns {the last id looked at, or '' if that was all, id...}.

local subject, before, limit = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[6])
local ids = ids_of(subject, ARGV[5], limit)
local found = { #ids == limit and ids[#ids] or '' }
local policies = redis.call('SMEMBERS', key('policies'))
for _, id in ipairs(ids) do
  local grave = redis.call('HGET', key('graves'), id)
  local record = locate(id, policies) or grave and cjson.decode(grave)
  local facts = facts_of(id)
  local made = record and not record.q and (creation_kept(creation(record), facts) or 0)
  -- An entry may be left of whoever had the id before: it is the subject's only by its facts.
  if made and made < before and is_of(subject, facts) then found[#found + 1] = id end
end
return found
