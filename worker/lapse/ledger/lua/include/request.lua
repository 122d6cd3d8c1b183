-- @include registry/lua/include/subjects
-- What is asked of a claim: ARGV[3], one JSON object. All say name (of this request), lease (ms), worker, pending (most audit
-- records), epoch (that the rules were adopted under), earliest, latest (between which Redis TIME has to be); '' each: not
-- checked; subjects: up to which number the slot has to know the subjects that are held. Those that go by a rule: policy, digest, amount and window (ms) of max_deletions (none: unlimited), ramp (ms, none: off).
-- A claim whose reply was lost is sent again under the same name: it gets the reply of the first and leases nothing on top,
-- for nobody would work on what the first one leased.
-- @key claim:ARGV[3].name
-- @policy ARGV[3].policy

local request = cjson.decode(ARGV[3])
local pace = { amount = request.amount or -1, window = request.window or 0 }

-- True if a subject may be held that this slot has not heard of: whoever claims copies what it lacks first.
local function subjects_behind() return subjects_known() < request.subjects end

local function replied()
  local said = redis.call('GET', key('claim:' .. request.name))
  return said and cjson.decode(said)
end

-- Only what changed something is kept: any other reply may be given anew.
local function granting(reply)
  redis.call('SET', key('claim:' .. request.name), cjson.encode(reply), 'PX', 60000)
  return reply
end
