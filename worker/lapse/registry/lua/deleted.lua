-- @include registry/lua/include/full
-- @include registry/lua/include/edges
-- The application had an object deleted, and the provider confirmed it. ARGV[3]: id.
-- Its record goes, with what it used and with a hold: there is nothing left to keep. Under a claim it goes when that ends.
-- Returns ok | unknown | too_late.

local id = ARGV[3]
local record = locate(id)
local held = redis.call('HEXISTS', key('holds'), id) == 1
if held then
  act('unhold', id, record and record.p or '', ',"actor":"the application deleted it"')
  redis.call('ZREM', key('hold_ends'), id)
  redis.call('HDEL', key('holds'), id)
end
if not record then return held and 'ok' or 'unknown' end
act('deleted_by_app', id, record.p)
release_edges(id)
if record.s == 'claimed' then
  record.g = 2
  amend(id, record)
  return 'too_late'
end
redis.call('HDEL', key('referenced'), id)
redis.call('ZADD', key('tombstones'), now, id) -- a list may show it for a while yet
take(id, record)
return 'ok'
