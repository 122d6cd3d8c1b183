-- @include registry/lua/include/slot
-- The policy names of a slot.

local policies = redis.call('SMEMBERS', key('policies'))

-- Adds a name; returns an error if there are too many.
local function know(policy)
  for _, name in ipairs(policies) do
    if name == policy then return end
  end
  if #policies >= 64 then
    return redis.error_reply('LAPSE-POLICIES 64 policy names are in use: a policy is a rule, not data')
  end
  redis.call('SADD', key('policies'), policy)
  policies[#policies + 1] = policy
end
