-- @include registry/lua/include/subjects
-- The ids of a subject in order, tracked or not. ARGV[3]: subject, [4]: after this id, or '', [5]: how many at most.
-- Returns {1 if every id of the slot can be found so, id...}.

local found = ids_of(ARGV[3], ARGV[4], tonumber(ARGV[5]))
table.insert(found, 1, redis.call('HEXISTS', key('subject_index'), 'whole')) -- unpack takes no more than some thousands
return found
