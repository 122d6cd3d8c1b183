-- @include lease
-- One complete listing: counts how often in a row each candidate was seen. A candidate that is held, referenced, forgotten,
-- buried, claimed or under another policy is none.
-- ARGV[3]: policy, [4]: digest, [5]: JSON {candidates: {id: stamped}, run: n}.
-- Returns JSON {now, bar, refused: {reason: n}, seen: {id: {times, first seen}}}.

local policy, digest, run = ARGV[3], ARGV[4], cjson.decode(ARGV[5])
local sightings = part(policy, 'sightings')

local function refusal(id, stamped)
  local record = locate(id)
  if redis.call('ZSCORE', key('forgotten'), id) then return 'foreign' end
  if redis.call('ZSCORE', key('tombstones'), id) then return 'settled' end
  if not record and not stamped then return 'foreign' end
  if record and record.p ~= policy then return 'other_policy' end
  if record and record.e then return 'own_expiry' end
  if record and record.s == 'claimed' then return 'claimed' end
  if record and record.s == 'quarantined' then return 'quarantined' end
  if redis.call('HEXISTS', key('holds'), id) == 1 then return 'held' end
  if referenced(id) then return 'referenced' end
end

local refused, seen = {}, {}
for id, stamped in pairs(run.candidates) do
  local why = refusal(id, stamped)
  if why then
    refused[why] = (refused[why] or 0) + 1
    local record = aside(id)
    if record and record.s == 'waiting' and record.o then
      record.n, record.u, record.o = nil, nil, nil
      unpark(id, record)
    end
  else
    local stored = redis.call('HGET', sightings, id)
    local one = stored and cjson.decode(stored) or { times = 0, first = now, run = run.run - 1 }
    local last_named = tonumber(redis.call('HGET', key('referenced'), id) or nil) or 0
    if one.run < run.run - 1 or last_named >= one.first then one = { times = 0, first = now, run = run.run - 1 } end
    if one.run < run.run then one.times, one.run = one.times + 1, run.run end
    redis.call('HSET', sightings, id, cjson.encode(one))
    seen[id] = { one.times, one.first }
  end
end
return cjson.encode({ now = now, bar = barred(policy, digest), refused = refused, seen = seen })
