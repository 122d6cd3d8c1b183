-- @include registry/lua/include/full
-- @include registry/lua/include/keys
-- Decides whether a wake-up finds anything to do, and marks the run that it starts.
-- ARGV[1]: policy, [2]: when the message was sent (ms) or '', [3]: how long one run makes
-- others needless (ms), [4]: the digest of a rule that has nothing to do where nothing is registered, or ''.
-- Returns 1 to run, 0 if a run has overtaken the message, or 2 if this is all of the sweep: the rule is in force, a whole sweep
-- has looked lately, and since then nothing stands in the partition, and nothing waits in its slot.
-- A message that a run has overtaken is needless. So doubled, late and piled up messages cost nothing, the oldest
-- message of a partition keeps its place in the queue, and no clock but Redis TIME is asked.
-- @policy ARGV[1]

local WHOLE_EVERY = 600000 -- ms between two sweeps that ask every guard, where there is nothing to delete

local rules = part(ARGV[1], 'rules')
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local seen = redis.call('HMGET', rules, 'woken', 'digest', 'acted', 'base_at', 'failing_since')
local woken, sent = tonumber(seen[1]), tonumber(ARGV[2])
local apart = tonumber(ARGV[3])
-- Nothing was sent later than now. What nobody could stamp was sent at any time: it runs, but never within the interval.
if sent and sent > now or apart > 0 and not sent then sent = now end
if woken and sent and woken <= now and woken >= sent - apart then return 0 end
local function idle(digest)
  local in_force = digest ~= '' and seen[2] == digest and seen[3] == digest
  if not in_force or seen[5] or now - (tonumber(seen[4]) or 0) > WHOLE_EVERY then return false end
  local p = ARGV[1]
  return redis.call('EXISTS', key('halts'), key('released'), key('blocked'), key('joined'), part(p, 'fresh'), part(p, 'active'),
                    part(p, 'explicit'), part(p, 'claims'), part(p, 'waiting'), part(p, 'suspects'), part(p, 'tried'),
                    part(p, 'parked'), part(p, 'kept'), part(p, 'quarantine')) == 0
end

if not idle(ARGV[4]) then
  redis.call('HSET', rules, 'woken', now)
  return 1
end
redis.call('HSET', rules, 'woken', now, 'success', now)
redis.call('HINCRBY', key('counters'), 'sweeps|' .. ARGV[1] .. '|completed', 1)
return 2
