-- @include registry/lua/include/full
-- @include registry/lua/include/parking
-- @include registry/lua/include/late
-- @include registry/lua/include/protection
-- Stores a hold, whether or not the id is tracked, and parks a tracked id. ARGV[3]: id, [4]: hold (JSON), [5]: end (ms) or '',
-- [6]: when it was said, if it comes late.
-- Returns ok | unknown (held all the same) | too_late (a claim is out; no further attempt is made); a late one overtaken too.

local id, until_ms = ARGV[3], ARGV[5]
local at, late = said_at(ARGV[6])
if late and (last_said(id, 'hold') >= at or last_said(id, 'unhold') > at) then return 'overtaken' end
redis.call('HSET', key('holds'), id, ARGV[4])
protect('holds')
redis.call('ZREM', key('hold_ends'), id)
if until_ms ~= '' then redis.call('ZADD', key('hold_ends'), until_ms, id) end
local record = locate(id)
act('hold', id, record and record.p or '', ',"hold":' .. ARGV[4])
remember_said('hold', id, at)
if not record then return 'unknown' end
return park(id, record)
