-- @include registry/lua/include/full
-- @include registry/lua/include/keys
-- Decides whether a wake-up finds anything to do, and marks the run that it starts.
-- ARGV[1]: policy, [2]: when the message was sent (ms) or '', [3]: how long one run makes
-- others needless (ms).
-- Returns 1 to run, or 0.
-- A message that a run has overtaken is needless. So doubled, late and piled up messages cost nothing, the oldest
-- message of a partition keeps its place in the queue, and no clock but Redis TIME is asked.
-- @policy ARGV[1]

local rules = part(ARGV[1], 'rules')
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local woken, sent = tonumber(redis.call('HGET', rules, 'woken')), tonumber(ARGV[2])
local apart = tonumber(ARGV[3])
-- Nothing was sent later than now. What nobody could stamp was sent at any time: it runs, but never within the interval.
if sent and sent > now or apart > 0 and not sent then sent = now end
if woken and sent and woken <= now and woken >= sent - apart then return 0 end
redis.call('HSET', rules, 'woken', now)
return 1
