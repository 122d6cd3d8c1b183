-- @include registry/lua/include/slot
-- How many ids stand in ranges of a partition's indexes: O(log n) each.
-- ARGV[3]: policy, [4]: JSON [{index, after, until, other, beyond}]; scores as Redis writes them, after and beyond exclusive.
-- Returns for each range two numbers: its size, and how many ids of "other" stand at or before "beyond".
-- @policy ARGV[3]
-- @part fresh
-- @part active
-- @part created
-- @part explicit
-- @part capped

local policy, reply = ARGV[3], {}
for _, range in ipairs(cjson.decode(ARGV[4])) do
  reply[#reply + 1] = redis.call('ZCOUNT', part(policy, range[1]), '(' .. range[2], range[3])
  reply[#reply + 1] = range[4] ~= '' and redis.call('ZCOUNT', part(policy, range[4]), '-inf', range[5]) or 0
end
return reply
