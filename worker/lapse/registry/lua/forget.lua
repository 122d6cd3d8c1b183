-- @include registry/lua/include/full
-- @include registry/lua/include/edges
-- @include registry/lua/include/erasures
-- @include registry/lua/include/late
-- @include registry/lua/include/protection
-- Stops tracking an id and deletes nothing; the id is foreign until it is registered again. ARGV[3]: id, [4]: 'release' or nothing,
-- [5]: when it was said, if it comes late.
-- What it uses stays protected, because the object lives on; 'release' says that it needs nothing of that any more, also
-- of an id that was forgotten before.
-- Returns {ok | unknown | too_late, 1 if edges wait in "released"}; of a late one {overtaken, 0} too.

local id, release = ARGV[3], ARGV[4] == 'release'
local at, late = said_at(ARGV[5])
local verb = release and 'release' or 'forget'
local record = locate(id)
if late then
  -- One that was registered anew since is not forgotten. Of one that was tracked all the time nobody knows: it is.
  local since = math.max(last_said(id, 'register'), record and not record.q and creation(record) or 0)
  if since > at or last_said(id, verb, 'release') >= at then return { 'overtaken', 0 } end
end
local before = redis.call('ZSCORE', key('forgotten'), id)
redis.call('ZADD', key('forgotten'), at, id)
protect('forgotten')
act('forget', id, record and record.p or '', release and ',"release":true' or '')
remember_said(verb, id, at)
if record then withdraw(id, record, { o = 'forgotten' }) end
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
