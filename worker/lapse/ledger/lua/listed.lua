-- @include registry/lua/include/full
-- @include registry/lua/include/slot
-- A page of a listing: which of these ids an application forgot. They are listed: the count begins anew.
-- ARGV[3...]: ids. Returns those.

local found = {}
for i = 3, #ARGV do
  if redis.call('ZSCORE', key('forgotten'), ARGV[i]) then
    redis.call('HDEL', key('unlisted'), ARGV[i])
    found[#found + 1] = ARGV[i]
  end
end
return found
