-- Lets one worker at a time go through the requests to erase subjects. KEYS[1]: "erasing". ARGV[1]: its name, [2]: for how
-- long (ms), 0 to let others. Returns 1 if it may: nobody else does.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1
