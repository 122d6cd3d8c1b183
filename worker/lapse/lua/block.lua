-- Keeps every worker from a provider for a while. KEYS[1]: the provider's flow hash.
-- ARGV[1]: ms, [2]: '' for a Retry-After, else the breaker's reason; 'mend' with 0 ms closes the breaker.
-- Returns 1 if the breaker was closed and is open now, -1 if it was open and is closed now, 0 otherwise.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local till, reason = now + tonumber(ARGV[1]), ARGV[2]
if reason == 'mend' then
  return redis.call('HDEL', KEYS[1], 'breaker', 'breaker_until', 'breaker_since') > 0 and -1 or 0
end
local field = reason == '' and 'blocked_until' or 'breaker_until'
if till > (tonumber(redis.call('HGET', KEYS[1], field) or nil) or 0) then redis.call('HSET', KEYS[1], field, till) end
if reason == '' then return 0 end
local opened = redis.call('HSETNX', KEYS[1], 'breaker_since', now)
redis.call('HSET', KEYS[1], 'breaker', reason)
return opened
