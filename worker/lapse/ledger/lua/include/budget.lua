-- @include registry/lua/include/slot
-- How many more deletions a partition may start now: its pace (max_deletions) and its ramp.
-- A window, and a step of the ramp, is told by the last token given before it: pace_fence, ramp_fence.

local STEPS = 2
-- The first step deletes so many, and the second one of so many that are due, but no fewer. As ledger/claim.py has them.
local FIRST, SHARE = 10, 10

local function numbers(policy)
  local values = redis.call('HMGET', part(policy, 'rules'), 'pace_from', 'pace_used', 'ramp_step', 'ramp_from', 'ramp_used', 'ramp_cap')
  return { from = tonumber(values[1]), used = tonumber(values[2]) or 0, step = tonumber(values[3]) or 0,
           ramp_from = tonumber(values[4]), ramp_used = tonumber(values[5]) or 0, cap = tonumber(values[6]) or FIRST }
end

local function fence() return redis.call('HGET', key('marks'), 'fence') or 0 end

local function pace_room(policy, state, amount, window)
  if amount < 0 then return math.huge end
  if not state.from or now >= state.from + window then
    redis.call('HSET', part(policy, 'rules'), 'pace_from', now, 'pace_used', 0, 'pace_fence', fence())
    state.used = 0
  end
  return math.max(0, amount - state.used)
end

-- The first sweeps delete FIRST, then a share of what is due, then all; each step lasts `wait` without a failure.
local function ramp_room(policy, state, wait, due)
  if wait < 0 or state.step >= STEPS then return math.huge end
  if not state.ramp_from then
    redis.call('HSET', part(policy, 'rules'), 'ramp_step', 0, 'ramp_from', now, 'ramp_used', 0, 'ramp_cap', FIRST, 'ramp_fence', fence())
  elseif state.ramp_used > 0 and now >= state.ramp_from + wait then
    state.step, state.ramp_used = state.step + 1, 0
    state.cap = math.max(FIRST, math.ceil(due() / SHARE))
    redis.call('HSET', part(policy, 'rules'), 'ramp_step', state.step, 'ramp_from', now, 'ramp_used', 0,
      'ramp_cap', state.cap, 'ramp_fence', fence())
    if state.step >= STEPS then return math.huge end
  end
  return math.max(0, state.cap - state.ramp_used)
end

local function spend(policy, n)
  redis.call('HINCRBY', part(policy, 'rules'), 'pace_used', n)
  redis.call('HINCRBY', part(policy, 'rules'), 'ramp_used', n)
end
