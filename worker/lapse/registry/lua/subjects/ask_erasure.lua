-- @include registry/lua/include/full
-- Writes a request to erase a subject down, once. KEYS[1]: "erasures", or of one by an application "asked_erasures".
-- ARGV[1]: its id, [2]: its JSON. Returns what stands there.

redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1])
