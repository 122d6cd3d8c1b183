-- @include registry/lua/include/due
-- @include registry/lua/include/holds
-- All that the slot knows of one id. ARGV[3]: id. Reads only.
-- Returns JSON: record, due, by, hold, facts, edges (at most 100), tombstone, digest.

local id = ARGV[3]
local record = locate(id)
local hold = hold_of(id)
local facts = redis.call('HGET', key('facts'), id)
local seen = { now = now, id = id, record = record }
if record then record.p = record.l or record.p end
if record then seen.due, seen.by = due_of(record, rules_of(record.p)) end
if record then seen.digest = rules_of(record.p).digest or nil end
if hold then seen.hold = hold end
if facts then seen.facts = cjson.decode(facts) end
seen.tombstone = tonumber(redis.call('ZSCORE', key('tombstones'), id) or nil)
local edges = redis.call('ZRANGEBYLEX', key('edges'), '[' .. id .. '|', '(' .. id .. '}', 'LIMIT', 0, 100)
if #edges > 0 then seen.edges = edges end
return cjson.encode(seen)
