-- @include registry/lua/include/full
-- Keeps every worker from a provider for a while. KEYS[1]: the provider's flow hash.
-- ARGV[1]: ms, [2]: '' for a Retry-After, else the breaker's reason; failed: an answer that may be an outage's, of [3] weight;
-- good: a good answer came after such ones; mend: the attempt that an open breaker let through got a good answer.
-- [4]: the answer in words, [5]: by what name the key is known that got it; both are kept with the breaker.
-- Returns 1 if the breaker was closed and is open now, 2 if it was open before, -1 if it is closed now, 0 otherwise.
-- An outage is 20 failures in a row, of all workers together, or 3 over more than 5 s; two minutes without one end a row.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local till, reason = now + tonumber(ARGV[1]), ARGV[2]
local kept = { 'breaker_until', 'breaker_since', 'cause_since', 'cause_detail', 'cause_key' }
local row = { 'errors', 'errors_since', 'errors_at' }

if reason == 'good' or reason == 'mend' then
  redis.call('HDEL', KEYS[1], unpack(row))
  return reason == 'mend' and redis.call('HDEL', KEYS[1], 'breaker', unpack(kept)) > 0 and -1 or 0
end
if reason == 'failed' then
  local last = tonumber(redis.call('HGET', KEYS[1], 'errors_at') or nil)
  if last and now - last > 120000 then redis.call('HDEL', KEYS[1], unpack(row)) end
  redis.call('HSETNX', KEYS[1], 'errors_since', now)
  redis.call('HSET', KEYS[1], 'errors_at', now)
  local errors = tonumber(redis.call('HINCRBYFLOAT', KEYS[1], 'errors', ARGV[3]))
  local long = now - tonumber(redis.call('HGET', KEYS[1], 'errors_since')) >= 5000
  local open = redis.call('HEXISTS', KEYS[1], 'breaker') == 1
  if not open and errors < 20 and not (errors >= 3 and long) then return 0 end
  reason = 'outage'
end
local field = reason == '' and 'blocked_until' or 'breaker_until'
if till > (tonumber(redis.call('HGET', KEYS[1], field) or nil) or 0) then redis.call('HSET', KEYS[1], field, till) end
if reason == '' then return 0 end
if redis.call('HGET', KEYS[1], 'breaker') ~= reason then redis.call('HSET', KEYS[1], 'cause_since', now) end
redis.call('HSET', KEYS[1], 'breaker', reason, 'cause_detail', ARGV[4], 'cause_key', ARGV[5])
return redis.call('HSETNX', KEYS[1], 'breaker_since', now) == 1 and 1 or 2
