-- @include registry/lua/include/holds
-- Statements may come late: one that waited in a spool carries the time at which it was said. It never overrides one that
-- was said after it, so the slot remembers of each id when what was last said: "VERB|id" in "last_said", for longer than a
-- spool's 7 days. Where a hold or a forget was said at the same moment as what takes it back, these stand.

local REMEMBERED = 8 * 86400000

-- Returns when a statement was said, in Redis TIME, and whether it comes late.
local function said_at(given)
  if not given or given == '' then return now, false end
  return math.min(tonumber(given), now), true
end

-- Returns when one of the verbs was last said of an id; 0 if nobody remembers any.
local function last_said(id, ...)
  local latest = 0
  for _, verb in ipairs({ ... }) do
    latest = math.max(latest, tonumber(redis.call('ZSCORE', key('last_said'), verb .. '|' .. id) or 0))
  end
  return latest
end

-- Returns when a hold was said; of one by a client of an older version only that client's own clock is known.
local function held_at(id, hold)
  local at = last_said(id, 'hold')
  return at > 0 and at or hold.since
end

-- A Redis user from before "last_said" may not write there: what it says counts all the same.
local function remember_said(verb, id, at)
  local old = redis.pcall('ZRANGEBYSCORE', key('last_said'), '-inf', now - REMEMBERED, 'LIMIT', 0, 10)
  if #old > 0 then redis.pcall('ZREM', key('last_said'), unpack(old)) end
  redis.pcall('ZADD', key('last_said'), 'GT', at, verb .. '|' .. id)
end

-- Returns when an id was last let go of: forgotten, or deleted.
local function let_go_at(id)
  local at = last_said(id, 'forget', 'release')
  for _, name in ipairs({ 'forgotten', 'tombstones' }) do
    at = math.max(at, tonumber(redis.call('ZSCORE', key(name), id) or 0))
  end
  return at
end
