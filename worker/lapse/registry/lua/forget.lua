-- @include registry/lua/include/full
-- @include registry/lua/include/edges
-- @include registry/lua/include/protection
-- Stops tracking an id and deletes nothing; the id is foreign until it is registered again. ARGV[3]: id, [4]: 'release' or nothing.
-- What it uses stays protected, because the object lives on; 'release' says that it needs nothing of that any more, also
-- of an id that was forgotten before.
-- Returns {ok | unknown | too_late, 1 if edges wait in "released"}.

local id, release = ARGV[3], ARGV[4] == 'release'
local record = locate(id)
local before = redis.call('ZSCORE', key('forgotten'), id)
redis.call('ZADD', key('forgotten'), now, id)
protect('forgotten')
act('forget', id, record and record.p or '', release and ',"release":true' or '')
if record and record.s == 'claimed' then
  record.g = release and 2 or 1
  amend(id, record)
  return { 'too_late', 0 }
end
-- One that was settled as already gone stays forgotten, also when no list needs to remember that any more.
local grave = not record and redis.call('HGET', key('graves'), id)
if grave then
  local buried = cjson.decode(grave)
  buried.g = release and 2 or buried.g or 1
  redis.call('HSET', key('graves'), id, cjson.encode(buried))
end
local tracked = record and not record.q
if tracked then take(id, record) end
local released = release and (tracked or before) and release_edges(id) or 0
if released == 0 then disown(id) end
return { (tracked or released == 1) and 'ok' or 'unknown', released }
