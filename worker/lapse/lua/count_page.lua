-- @include slot
-- Counts one page of a range, newest first, by what another index says of each id.
-- ARGV[3]: policy, [4]: index, [5]: after (exclusive), [6]: until, [7]: other, [8]: beyond, [9]: how many were looked at before, [10]: how many now.
-- Returns {looked at, those with a score above beyond in the other index}.

local index = part(ARGV[3], ARGV[4])
local other = part(ARGV[3], ARGV[7])
local beyond = tonumber(ARGV[8])
local offset, size = tonumber(ARGV[9]), tonumber(ARGV[10])
-- By rank: a score can be that of thousands.
local first = redis.call('ZCOUNT', index, '(' .. ARGV[6], '+inf') + offset
local left = redis.call('ZCOUNT', index, '(' .. ARGV[5], ARGV[6]) - offset
if left <= 0 then return { 0, 0 } end
local ids = redis.call('ZRANGE', index, first, first + math.min(size, left) - 1, 'REV')
if #ids == 0 then return { 0, 0 } end
local counted = 0
for _, score in ipairs(redis.call('ZMSCORE', other, unpack(ids))) do
  if score and tonumber(score) > beyond then counted = counted + 1 end
end
return { #ids, counted }
