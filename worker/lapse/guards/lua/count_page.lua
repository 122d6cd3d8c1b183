-- @include registry/lua/include/slot
-- Counts one page of a range, newest first, by what another index says of each id.
-- ARGV[3]: policy, [4]: index, [5]: after (exclusive), [6]: until, [7], [8], [9]: the other index, and the same of it,
-- [10]: how many were looked at before, [11]: how many now.
-- Returns {looked at, those that stand in the other range too}.
-- @policy ARGV[3]
-- @part ARGV[4]
-- @part ARGV[7]

local index = part(ARGV[3], ARGV[4])
local other = part(ARGV[3], ARGV[7])
local after = ARGV[8] == '-inf' and -math.huge or tonumber(ARGV[8])
local until_ = ARGV[9] == 'inf' and math.huge or tonumber(ARGV[9])
local offset, size = tonumber(ARGV[10]), tonumber(ARGV[11])
-- By rank: a score can be that of thousands.
local first = redis.call('ZCOUNT', index, '(' .. ARGV[6], '+inf') + offset
local left = redis.call('ZCOUNT', index, '(' .. ARGV[5], ARGV[6]) - offset
if left <= 0 then return { 0, 0 } end
local ids = redis.call('ZRANGE', index, first, first + math.min(size, left) - 1, 'REV')
if #ids == 0 then return { 0, 0 } end
local counted = 0
for _, score in ipairs(redis.call('ZMSCORE', other, unpack(ids))) do
  local at = tonumber(score or nil)
  if at and at > after and at <= until_ then counted = counted + 1 end
end
return { #ids, counted }
