-- @include registry/lua/include/policies
-- The plain registrations among many: ids that stand once in the call, without facts, under a known policy, and of which
-- nothing is known. They are looked for and written by a command a key, not by ten an id. The others take the long way.

-- unpack takes no more than some thousands.
local AT_ONCE = 1000

local function plain_ones()
  local named, times, ids, policy_of = {}, {}, {}, {}
  for _, policy in ipairs(policies) do named[policy] = true end
  for i = 3, #ARGV, 3 do times[ARGV[i]] = (times[ARGV[i]] or 0) + 1 end
  for i = 3, #ARGV, 3 do
    if ARGV[i + 2] == '' and times[ARGV[i]] == 1 and named[ARGV[i + 1]] and #ids < AT_ONCE then
      ids[#ids + 1], policy_of[ARGV[i]] = ARGV[i], ARGV[i + 1]
    end
  end
  return ids, policy_of
end

-- Leaves out the ids that were found. False if nobody may look: a Redis user from before this may not.
local function without(ids, policy_of, found)
  if found.err then return false end
  for i, stored in ipairs(found) do
    if stored then policy_of[ids[i]] = nil end
  end
  return true
end

local function unknown(ids, policy_of)
  for _, name in ipairs({ 'aside', 'holds' }) do
    if not without(ids, policy_of, redis.pcall('HMGET', key(name), unpack(ids))) then return {} end
  end
  local places = { key('tombstones'), key('forgotten') }
  for _, policy in ipairs(policies) do
    for _, name in ipairs({ 'fresh', 'active', 'explicit' }) do places[#places + 1] = part(policy, name) end
  end
  for _, place in ipairs(places) do
    if not without(ids, policy_of, redis.pcall('ZMSCORE', place, unpack(ids))) then return {} end
  end
  return policy_of
end

-- Registers them; returns id -> policy. What a full Redis refuses here goes the long way: it does not stand before what
-- is tracked and is touched.
local function register_plain_ones()
  local ids, policy_of = plain_ones()
  if #ids < 2 then return {} end
  policy_of = unknown(ids, policy_of)
  local scored = {}
  for _, id in ipairs(ids) do
    local policy = policy_of[id]
    if policy then
      local members = scored[policy] or {}
      members[#members + 1], members[#members + 2] = now, id
      scored[policy] = members
    end
  end
  for policy, members in pairs(scored) do
    local done = redis.pcall('ZADD', part(policy, 'fresh'), unpack(members))
    if type(done) == 'table' then
      for i = 2, #members, 2 do policy_of[members[i]] = nil end
    end
  end
  return policy_of
end
