-- @include registry/lua/include/full
-- One plain write to one key. ARGV[1]: the command, [2...]: its arguments after the key. Returns what the command does.

return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
