-- @include registry/lua/include/full
-- @include registry/lua/include/slot
-- Ends a halt, with the reason in the audit.
-- ARGV[3]: policy, or '*', [4]: reason of the halt, [5]: why it ends, [6]: actor.
-- Returns 1, or 0 if it did not stand any more.

if redis.call('HDEL', key('halts'), ARGV[3] .. '|' .. ARGV[4]) == 0 then return 0 end
audit('resumed', '', ARGV[3], ',"reason":' .. text(ARGV[4]) .. ',"why":' .. text(ARGV[5]) .. ',"actor":' .. text(ARGV[6]))
return 1
