-- @include registry/lua/include/edges
-- @include registry/lua/include/due
-- How ids stand that may be due as a circle: each uses another. Changes nothing. ARGV[3]: JSON [id].
-- Returns JSON, in their order, [{p: policy, due: true if only what uses it keeps it, users: [at most 101]}], or false for
-- one that has no place in a circle now.

local policies, found = redis.call('SMEMBERS', key('policies')), {}

local function alone(record)
  if record.s == 'tracked' then return true end
  if record.s == 'parked' then return record.r == 'referenced' end
  return record.s == 'waiting' and record.d <= now and not record.x and not record.o
end

for i, id in ipairs(cjson.decode(ARGV[3])) do
  local record = locate(id, policies)
  found[i] = false
  if record and not record.q and alone(record) and not held(id) then
    local due = due_of(record, rules_of(record.p))
    local users = {}
    any_source(id, function(source)
      users[#users + 1] = source
      return #users > 100
    end)
    found[i] = { p = record.p, due = due ~= nil and due <= now, users = #users > 0 and users or nil }
  end
end
return cjson.encode(found)
