-- @include registry/lua/include/full
-- @include ledger/lua/include/lease
-- Ends the sightings that a complete listing did not renew, and what was tried of such ids: their record is as before.
-- ARGV[3]: policy, [4]: number of the listing, [5...]: ids. Returns how many ended.
-- @policy ARGV[3]

local policy, run, ended = ARGV[3], tonumber(ARGV[4]), 0
for i = 5, #ARGV do
  local id = ARGV[i]
  local stored = redis.call('HGET', part(policy, 'sightings'), id)
  if stored and cjson.decode(stored).run < run then
    redis.call('HDEL', part(policy, 'sightings'), id)
    ended = ended + 1
    local record = aside(id)
    if record and record.s == 'waiting' and record.o then
      take(id, record)
      if not record.q then
        record.n, record.x, record.y, record.u, record.o, record.r, record.d = nil, nil, nil, nil, nil, nil, nil
        index(id, record)
      end
    end
  end
end
return ended
