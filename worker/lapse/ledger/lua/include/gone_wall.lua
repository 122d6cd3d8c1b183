-- @include ledger/lua/include/halting
-- @include ledger/lua/include/once
-- The last answers of a policy that ended an id, "d" for a confirmed deletion and "g" for one that was gone already, however
-- long they took: where too many are gone, the next one is not believed. A wrong place and an emptied account look alike.

local windows = {}

local function window_of(policy)
  if not windows[policy] then
    local stored = redis.call('HMGET', part(policy, 'rules'), 'wall', 'wall_since')
    windows[policy] = { letters = stored[1] or '', since = tonumber(stored[2]) or now }
  end
  return windows[policy]
end

-- Goes on where an earlier run of the same batch stood after a step.
local function wall_recovered(own)
  local set = own.set[part(own.p, 'rules')]
  if set and set.wall then windows[own.p] = { letters = set.wall, since = tonumber(set.wall_since) } end
end

-- Adds an answer; returns false, and halts, if it is one too many. wall: {percent, at_least}.
local function wall_allows(own, policy, letter, wall)
  local one = window_of(policy)
  local letters = string.sub(one.letters .. letter, -2 * wall.at_least)
  local _, gone = string.gsub(letters, 'g', '')
  if letter == 'g' and gone > math.max(wall.at_least, wall.percent * #letters / 100) then
    halt(policy, 'gone_wall', string.format(
      '%d of the last %d ids of this policy were not there: they would all be settled as already gone', gone, #letters),
      policy, one.since)
    return false
  end
  if gone == 0 or (letter == 'g' and gone == 1) then one.since = now end
  one.letters = letters
  owe_value(own, part(policy, 'rules'), 'wall', letters)
  owe_value(own, part(policy, 'rules'), 'wall_since', string.format('%.0f', one.since))
  return true
end
