-- The last activity and the creation of a touched id as one score, where nothing is counted from the creation: half the
-- memory of two entries. Whole milliseconds, up to the next whole second, are the last activity: a range by activity is what
-- it is without. What is left of the second says how many steps of ten minutes older the creation is, in odd multiples of
-- what a double can hold there: a score that is a whole number is no packed one.
-- Both are rounded up: never earlier than what was said. The steps are those of the clock, so that a creation stays what it
-- is however often its id is touched.

local STEP = 600000 -- ms

-- How many scores a millisecond has: doubles from 2^41 (September 2039) on have half as many as those before.
local function to_a_millisecond(second) return second < 2^41 - 1000 and 4096 or 2048 end

local function pack(active, created)
  local second, per = math.ceil(active / 1000) * 1000, to_a_millisecond(active)
  local age = math.ceil(second / STEP) - math.ceil(created / STEP)
  return second + (2 * math.min(math.max(age, 0), 500 * per - 1) + 1) / per
end

local function is_packed(score) return score ~= math.floor(score) end

-- Returns last activity and creation.
local function unpacked(score)
  local rest = score % 1000
  local second = score - rest
  local age = (rest * to_a_millisecond(second) - 1) / 2
  return second, math.min((math.ceil(second / STEP) - age) * STEP, second)
end

-- Whether ids are written so: a worker says it when rules are in force that count nothing from a creation.
local packing = {}

local function packs(policy)
  if packing[policy] == nil then packing[policy] = redis.call('HGET', part(policy, 'rules'), 'creations') == 'packed' end
  return packing[policy]
end

-- Whether rules make touched ids due by their creation.
local function count_from_creation(rules)
  return rules.max_age or rules.ttl and rules.anchor == 'created_at'
end
