-- Writes fields of a hash that ends by itself. KEYS[1]: the hash. ARGV[1]: for how long from now (ms), [2...]: fields and values.
-- Returns how many fields are new.

local new = 0
for i = 2, #ARGV, 2 do new = new + redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return new
