-- @include registry/lua/include/full
-- Writes down for the whole namespace that a subject is held, or no longer: each such statement has a number.
-- KEYS[1]: the namespace's "held_subjects". ARGV[1]: subject, [2]: hold (JSON), or '' to end it.
-- Returns {number, 1 if it was held before}.

local before = redis.call('HEXISTS', KEYS[1], ARGV[1])
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return { redis.call('HINCRBY', KEYS[1], '\31', 1), before }
