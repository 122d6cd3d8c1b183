-- @include registry/lua/include/full
-- @include registry/lua/include/record
-- What stood in the way of parents does not any more: they are due as they were. ARGV[3...]: ids. Returns how many.

local freed = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local record = aside(id)
  if not (record and record.s == 'claimed') then redis.call('HDEL', key('blocked'), id) end
  if record and record.s == 'kept' then
    unpark(id, record)
    freed = freed + 1
  elseif record and record.s == 'waiting' and not record.o then
    lift(id, record)
    set_aside(id, record, 'waiting', now)
    freed = freed + 1
  end
end
return freed
