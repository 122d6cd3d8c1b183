-- @include registry/lua/include/slot
-- Counts, before an application says that an id uses others, how many it would use then. Reads only.
-- ARGV[3]: id, [4]: its new uses (JSON list). Returns 1 if it may, else 0.

local stored = redis.call('HGET', key('facts'), ARGV[3])
local named, count = {}, 0
for _, uses in ipairs({ stored and cjson.decode(stored).uses or {}, cjson.decode(ARGV[4]) }) do
  for _, edge in ipairs(uses) do
    if not named[edge] then named[edge], count = true, count + 1 end
  end
end
return count <= 20000 and 1 or 0
