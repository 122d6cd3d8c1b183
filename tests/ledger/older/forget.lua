-- @include full
-- @include edges
-- Stops tracking an id and deletes nothing; the id is foreign until it is registered again. ARGV[3]: id.
-- Returns {ok | unknown | too_late, 1 if edges wait in "released"}.

local id = ARGV[3]
local record = locate(id)
redis.call('ZADD', key('forgotten'), now, id)
audit('forget', id, record and record.p or '')
if record and record.s == 'claimed' then
  record.g = 1
  amend(id, record)
  return { 'too_late', 0 }
end
if not record or record.q then return { 'unknown', 0 } end
take(id, record)
return { 'ok', release_edges(id) }
