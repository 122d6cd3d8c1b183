-- @include full
-- @include record
-- Stores a hold, whether or not the id is tracked, and parks a tracked id. ARGV[3]: id, [4]: hold (JSON), [5]: end (ms) or ''.
-- Returns ok | unknown (held all the same) | too_late (a claim is out; no further attempt is made).

local id, until_ms = ARGV[3], ARGV[5]
redis.call('HSET', key('holds'), id, ARGV[4])
redis.call('ZREM', key('hold_ends'), id)
if until_ms ~= '' then redis.call('ZADD', key('hold_ends'), until_ms, id) end
local record = locate(id)
audit('hold', id, record and record.p or '', ',"hold":' .. ARGV[4])
if not record then return 'unknown' end
if record.s == 'claimed' then return 'too_late' end
if record.s ~= 'quarantined' and record.r ~= 'held' then
  take(id, record)
  record.r = 'held'
  set_aside(id, record, 'parked', now)
end
return 'ok'
