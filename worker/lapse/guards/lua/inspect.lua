-- @include registry/lua/include/full
-- @include registry/lua/include/protection
-- Says which keys of the slot lost what they protected, and begins to count where nobody counted yet; or takes them as they are.
-- ARGV[3]: 1 to take the keys as they are now, the answer of an operator.
-- Returns JSON {damaged: [name], counts: {name: how often something was put there}}, as it was before.

local found, counts = damaged(), {}
for _, name in ipairs(PROTECTING) do
  counts[name] = stored_count(name) or marked(name) or 0
  if not stored_count(name) and not marked(name) and redis.call('EXISTS', key(name)) == 1 then set_counts(name, 1) end
end
if ARGV[3] == '1' then
  for _, name in ipairs(found) do set_counts(name, math.max(counts[name], marked(name) or 0) + 1) end
end
return cjson.encode({ damaged = found, counts = counts })
