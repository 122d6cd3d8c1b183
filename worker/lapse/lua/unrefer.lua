-- @include full
-- @include edges
-- Removes the edges of a source; a target that nothing uses any more comes back. ARGV[3]: "provider|kind|source", [4...]: target ids.
-- Returns how many targets.

for i = 4, #ARGV do
  local id = ARGV[i]
  redis.call('ZREM', key('edges'), id .. '|' .. ARGV[3])
  local record = aside(id)
  if record and record.s == 'parked' and record.r == 'referenced' and not referenced(id) then unpark(id, record) end
end
return #ARGV - 3
