-- @include registry/lua/include/full
-- @include ledger/lua/include/orphan
-- One complete listing: counts how often in a row each candidate was seen.
-- ARGV[3]: policy, [4]: number of the listing, [5]: JSON {id: {m: what its stamp says, n: name, c: creation}}.
-- Returns JSON {refused: {reason: n}, seen: {id: [times, first seen, 1 if a worker crashed on it]}}.
-- @policy ARGV[3]

local policy, run, refused, seen = ARGV[3], tonumber(ARGV[4]), {}, {}

local function begun(item) return { times = 0, first = now, run = run - 1, m = item.m, n = item.n, c = item.c } end

local function keep(id, one)
  one.run = run
  redis.call('HSET', part(policy, 'sightings'), id, cjson.encode(one))
end

for id, item in pairs(cjson.decode(ARGV[5])) do
  local one = sighting(policy, id)
  if not one or one.run < run - 1 then one = begun(item) end
  local why, record = spared(policy, id, item.m, one)
  if why then
    refused[why] = (refused[why] or 0) + 1
    if why == 'settled' then
      one = begun(item)
      one.l = 1
      keep(id, one)
    end
  else
    if used_since(id, record, one) then one = begun(item) end
    one.m, one.n, one.c, one.q = item.m, item.n, item.c, record.q
    if one.run < run then one.times = one.times + 1 end
    keep(id, one)
    seen[id] = { one.times, one.first, record.x and 1 or 0 }
  end
end
return cjson.encode({ refused = refused, seen = seen })
