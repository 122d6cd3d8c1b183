-- @include registry/lua/include/full
-- Takes request tokens of a provider: a bucket on Redis TIME that all workers share, which honours Retry-After and the breaker for all of them.
-- KEYS[1]: the provider's flow hash. ARGV[1]: requests per second, -1: unlimited, [2]: burst, [3]: wanted (negative: give back),
-- [4]: 1 for the attempt that an open breaker let through, which is let through whole.
-- Returns {granted, ms until one more, why: '' | rate | retry_after | breaker | probe}.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local rate, burst, wanted, chosen = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local state = redis.call('HMGET', KEYS[1], 'tat', 'blocked_until', 'breaker_until', 'breaker')
local tat, blocked, breaker = tonumber(state[1]) or 0, (tonumber(state[2]) or 0) * 1000, (tonumber(state[3]) or 0) * 1000

local function wait(till, why) return { 0, math.ceil((till - now) / 1000), why } end

if wanted > 0 then
  if blocked > now then return wait(blocked, 'retry_after') end
  if state[4] and breaker > now and not chosen then return wait(breaker, 'breaker') end
end
local probing = wanted > 0 and state[4] and not chosen
if probing then wanted = 1 end
local function next_probe(ms) redis.call('HSET', KEYS[1], 'breaker_until', math.floor(now / 1000) + ms) end
if wanted < 0 and chosen and state[4] then next_probe(0) end -- nothing was sent: the next one may
if rate < 0 then
  if probing then next_probe(10000) end
  return { wanted, 0, probing and 'probe' or '' }
end

local interval = 1000000 / rate
if wanted <= 0 then
  redis.call('HSET', KEYS[1], 'tat', string.format('%.0f', tat + wanted * interval))
  return { wanted, 0, '' }
end
local start = math.max(tat, now)
local room = math.floor((burst * interval - (start - now)) / interval)
local granted = math.max(0, math.min(wanted, room))
if granted == 0 then return wait(start + interval - burst * interval + 1000, 'rate') end
redis.call('HSET', KEYS[1], 'tat', string.format('%.0f', start + granted * interval))
if probing then next_probe(10000) end
return { granted, 0, probing and 'probe' or '' }
