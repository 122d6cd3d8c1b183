-- @include full
-- Removes what a sink has confirmed from a slot's audit stream, or gives the slot back.
-- KEYS[1]: the slot's prefix. ARGV[1]: the mover's token, [2]: the id that follows the last confirmed one, or ''.
-- Returns how many lines were removed. A mover that lost the slot may still trim: it wrote these lines.

if redis.call('GET', KEYS[1] .. 'mover') == ARGV[1] and ARGV[2] == '' then redis.call('DEL', KEYS[1] .. 'mover') end
if ARGV[2] == '' then return 0 end
return redis.call('XTRIM', KEYS[1] .. 'audit', 'MINID', ARGV[2])
