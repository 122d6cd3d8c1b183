-- @include registry/lua/include/full
-- @include registry/lua/include/number
-- Writes down for the whole namespace that a subject is held, or no longer: each such statement has a number.
-- KEYS[1]: the namespace's "held_subjects". ARGV[1]: subject, [2]: hold (JSON), or '' to end it, [3]: the hold that is
-- meant, if only that one is to end: one that was said meanwhile stands.
-- Returns its number, and that of the statement before it; {0, 0} where nothing was said.

if ARGV[3] and redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then return { 0, 0 } end
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return next_numbers()
