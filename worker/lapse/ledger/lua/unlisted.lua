-- @include registry/lua/include/full
-- @include registry/lua/include/slot
-- A complete listing did not show these ids, which an application forgot before it: the second in a row ends that. One that
-- is told of twice, as when a reply was lost, is one. ARGV[3]: when it began, [4...]: ids. Returns how many ended.

local ended = 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local since = redis.call('ZSCORE', key('forgotten'), id)
  local last, listing = string.match(redis.call('HGET', key('unlisted'), id) or '', '^(%S*) ?(%S*)$')
  if since and last == since and listing ~= ARGV[3] then
    redis.call('ZREM', key('forgotten'), id)
    redis.call('HDEL', key('unlisted'), id)
    ended = ended + 1
  elseif since then
    redis.call('HSET', key('unlisted'), id, since .. ' ' .. ARGV[3])
  end
end
return ended
