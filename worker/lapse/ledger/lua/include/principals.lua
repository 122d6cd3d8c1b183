-- @include ledger/lua/include/halting
-- The credentials whose answers this slot has had: identity -> JSON {since, at (last seen), state: new | accepted | refused |
-- partial (refused, and sees some of the ids), why, judged}.

local MOST = 50

local function principals()
  local found, flat = {}, redis.call('HGETALL', key('principals'))
  for i = 1, #flat, 2 do found[flat[i]] = cjson.decode(flat[i + 1]) end
  return found
end

-- Rotated keys add up: the one that was seen least recently makes room.
local function store_principal(identity, one)
  redis.call('HSET', key('principals'), identity, cjson.encode(one))
  if redis.call('HLEN', key('principals')) <= MOST then return end
  local oldest, at
  for other, stored in pairs(principals()) do
    if other ~= identity and (not at or stored.at < at) then oldest, at = other, stored.at end
  end
  redis.call('HDEL', key('principals'), oldest)
end

-- Ends what says that a credential is refused once none is.
local function end_refusal(stored)
  for _, one in pairs(stored) do
    if one.state == 'refused' or one.state == 'partial' then return end
  end
  if redis.call('HDEL', key('halts'), '*|principal_unproven') == 1 then
    audit('resumed', '', '*', ',"reason":"principal_unproven","why":"its cause has ended","actor":"lapse"')
  end
end

-- One that does not find what another reads does not look at the same place.
local function refuse_principal(identity, why)
  local stored = redis.call('HGET', key('principals'), identity)
  local one = stored and cjson.decode(stored) or { since = now, at = now }
  if one.state == 'refused' or one.state == 'partial' then return end
  one.state, one.why, one.judged = 'partial', why, now
  store_principal(identity, one)
  halt('*', 'principal_unproven', why)
end
