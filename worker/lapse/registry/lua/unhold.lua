-- @include registry/lua/include/full
-- @include registry/lua/include/parking
-- Removes a hold; the id comes back to where it would stand without it. ARGV[3]: id, [4]: actor (JSON string).
-- Returns ok | unknown (there was no hold).

local id = ARGV[3]
if redis.call('HEXISTS', key('holds'), id) == 0 then return 'unknown' end
local record = aside(id)
let_go(id, record)
act('unhold', id, record and record.p or '', ',"actor":' .. ARGV[4])
redis.call('ZREM', key('hold_ends'), id)
redis.call('HDEL', key('holds'), id) -- last: sent again, it finds what is left to do
return 'ok'
