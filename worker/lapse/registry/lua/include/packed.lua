-- @include registry/lua/include/slot
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

-- A subject's ids are compared with its requests of any time: their facts keep the creation to the millisecond.
local function keep_creation(id, created)
  local stored = redis.call('HGET', key('facts'), id)
  if not stored or not string.find(stored, '"subject"', 1, true) then return end
  local facts = cjson.decode(stored)
  if facts.c and facts.c <= created and created - facts.c < STEP then return end
  facts.c = created
  redis.call('HSET', key('facts'), id, cjson.encode(facts))
end

-- The creation of an id that has a subject.
local function creation_kept(created, facts)
  local kept = facts and facts.c
  return kept and created and kept <= created and created - kept < STEP and kept or created
end

-- Whether rules make touched ids due by their creation.
local function count_from_creation(rules)
  return rules.max_age or rules.ttl and rules.anchor == 'created_at'
end
