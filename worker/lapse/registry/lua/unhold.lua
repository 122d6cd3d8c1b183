-- @include registry/lua/include/full
-- @include registry/lua/include/parking
-- @include registry/lua/include/late
-- Removes a hold; the id comes back to where it would stand without it. ARGV[3]: id, [4]: actor (JSON string),
-- [5]: when it was said, if it comes late.
-- Returns ok | unknown (there was no hold); a late one overtaken too.

local id = ARGV[3]
local hold = own_hold(id)
local at, late = said_at(ARGV[5])
if late then
  local since = hold and held_at(id, hold) or last_said(id, 'hold')
  if since >= at or last_said(id, 'unhold') >= at then return 'overtaken' end
end
if not hold then
  remember_said('unhold', id, at)
  return 'unknown'
end
local record = aside(id)
let_go(id, record)
act('unhold', id, record and record.p or '', ',"actor":' .. ARGV[4])
remember_said('unhold', id, at)
redis.call('ZREM', key('hold_ends'), id)
redis.call('HDEL', key('holds'), id) -- last: sent again, it finds what is left to do
return 'ok'
