-- @include registry/lua/include/full
-- @include registry/lua/include/slot
-- A complete listing did not show these ids, which an application forgot before it: the second in a row ends that.
-- ARGV[3...]: ids. Returns how many ended.

local ended = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local since = redis.call('ZSCORE', key('forgotten'), id)
  if since and redis.call('HGET', key('unlisted'), id) == since then
    redis.call('ZREM', key('forgotten'), id)
    redis.call('HDEL', key('unlisted'), id)
    ended = ended + 1
  elseif since then
    redis.call('HSET', key('unlisted'), id, since)
  end
end
return ended
