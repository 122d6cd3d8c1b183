-- @include registry/lua/include/full
-- @include registry/lua/include/edges
-- @include registry/lua/include/erasures
-- @include registry/lua/include/parking
-- @include registry/lua/include/late
-- The application had an object deleted, and the provider confirmed it. ARGV[3]: id,
-- [4]: when it was said, if it comes late.
-- Its record goes, with what it used and with a hold: there is nothing left to keep. Under a claim it goes when that ends.
-- Returns ok | unknown | too_late; of a late one whose id was registered anew since overtaken: only a hold from before ends.

local id = ARGV[3]
local at, late = said_at(ARGV[4])
local record, hold = locate(id), own_hold(id)
local anew = late and record and not record.q and (creation(record) or 0) > at
local held = hold and (not late or held_at(id, hold) <= at)
remember_said('release', id, at)
remember_said('unhold', id, at)
if held then
  if anew then let_go(id, record) end
  act('unhold', id, record and record.p or '', ',"actor":"the application deleted it"')
  redis.call('ZREM', key('hold_ends'), id)
  redis.call('HDEL', key('holds'), id)
end
if anew then return 'overtaken' end
if not record then return held and 'ok' or 'unknown' end
act('deleted_by_app', id, record.p)
withdraw(id, record, { o = 'deleted', at = at })
release_edges(id)
if record.s == 'claimed' then
  record.g = 2
  amend(id, record)
  return 'too_late'
end
redis.call('HDEL', key('referenced'), id)
redis.call('ZADD', key('tombstones'), at, id) -- a list may show it for a while yet
take(id, record)
return 'ok'
