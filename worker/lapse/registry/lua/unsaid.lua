-- @include registry/lua/include/full
-- @include registry/lua/include/slot
-- Notes that a source could not say all that it uses, so that what is listed of this kind may be used by it unseen: its
-- orphan rules halt, each until an operator resumed it. ARGV[3]: "provider|kind|source". Returns now.

redis.call('HSET', key('said'), 'unsaid', string.format('%.0f %s', now, ARGV[3]))
return now
