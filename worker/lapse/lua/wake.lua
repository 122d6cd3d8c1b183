-- Decides whether a wake-up finds anything to do, and marks the run that it starts.
-- KEYS[1]: the slot's prefix. ARGV[1]: policy, [2]: when the message was sent (ms) or '', [3]: how long one run makes
-- others needless (ms). Returns {1 to run or 0, now (ms), digest of the rules in force or ''}.
-- A message that a run has overtaken is needless. So doubled, late and piled up messages cost nothing, the oldest
-- message of a partition keeps its place in the queue, and no clock but Redis TIME is asked.

local rules = KEYS[1] .. ARGV[1] .. ':rules'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local stored = redis.call('HMGET', rules, 'woken', 'digest')
local woken, sent = tonumber(stored[1]), tonumber(ARGV[2])
local needless = woken and sent and woken <= now and woken >= sent - tonumber(ARGV[3])
if not needless then redis.call('HSET', rules, 'woken', now) end
return { needless and 0 or 1, now, stored[2] or '' }
