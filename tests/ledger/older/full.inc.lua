-- A full Redis (maxmemory) refuses the first command of a script that may need memory, but none after a write. What
-- deletes, protects, stops or answers writes first: refused, nothing would ever be freed, and a hold would be lost.
redis.pcall('HDEL', KEYS[1], '')
