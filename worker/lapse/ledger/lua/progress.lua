-- @include registry/lua/include/full
-- @include registry/lua/include/record
-- Counts items of a claimed id as they are deleted, so that a worker that ends loses what is in flight, and no more.
-- ARGV[3]: id, [4]: token, [5]: items deleted under it so far. Sent again, or late, it counts nothing twice.
-- Returns 1; 0: the lease is another's by now.

local id, token, items = ARGV[3], ARGV[4], tonumber(ARGV[5])
local record = aside(id)
if not record or record.s ~= 'claimed' or record.t ~= tonumber(token) then return 0 end
local mine, total = 'progress|' .. token .. '|' .. id, 'deletions|' .. record.p .. '|' .. kind .. '_item'
local known = redis.call('HMGET', key('counters'), mine, total)
local more = items - (tonumber(known[1]) or 0)
if more > 0 then -- both in one command: wherever the script may end, they agree
  redis.call('HSET', key('counters'), mine, items, total, string.format('%.0f', (tonumber(known[2]) or 0) + more))
end
return 1
