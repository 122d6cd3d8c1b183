-- @include registry/lua/include/full
-- @include registry/lua/include/parking
-- Makes ids of a subject stand as its hold says: parks them, or lets them go where nothing holds them any more.
-- ARGV[3]: subject, [4]: after this id, or '', [5]: how many ids at most.
-- Returns {changed, claimed (a deletion is under way), the last id looked at or '' if that was all, how many are left}.

local subject, after, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local ids, changed, claimed = ids_of(subject, after, limit), 0, 0
for _, id in ipairs(ids) do
  local record = locate(id)
  if record and not record.q then
    local parked, stays = record.s == 'parked' and record.r == 'held', held(id)
    if stays and not parked and record.s ~= 'quarantined' then
      if park(id, record) == 'too_late' then claimed = claimed + 1 else changed = changed + 1 end
    elseif parked and not stays then
      unpark(id, record)
      changed = changed + 1
    end
  end
end
local last = #ids == limit and ids[#ids] or ''
if last ~= '' then return { changed, claimed, last, count_after(subject, last) } end
if redis.call('HGET', key('subject_holds'), subject) == ENDED then redis.call('HDEL', key('subject_holds'), subject) end
return { changed, claimed, '', 0 }
