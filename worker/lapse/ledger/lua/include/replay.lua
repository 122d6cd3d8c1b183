-- @include registry/lua/include/slot
-- A claim whose reply was lost is sent again under the same name, its last argument: it gets the reply of the first
-- and leases nothing on top, for nobody would work on what the first one leased.

local request = ARGV[#ARGV]

local function replied()
  local said = redis.call('GET', key('claim:' .. request))
  return said and cjson.decode(said)
end

-- Only what changed something is kept: any other reply may be given anew.
local function granting(reply)
  redis.call('SET', key('claim:' .. request), cjson.encode(reply), 'PX', 60000)
  return reply
end
