-- @include registry/lua/include/full
-- @include registry/lua/include/keys
-- Removes what a sink has confirmed from a slot's audit stream and moves its chain on, or gives the slot back.
-- ARGV[1]: the mover's token, [2]: the id that follows the last confirmed one, or ''.
-- [3]: where the chain stood when the lines were read, [4]: where it stands behind them, [5]: how many lines these are.
-- Returns how many lines were removed; -1 and nothing done if the chain stands elsewhere: another moved these lines, or if
-- others stand there: a failover lost these, and the clock of the server that took over is behind.
-- A mover that lost the slot may still trim: it wrote these lines.

if ARGV[2] == '' then
  if redis.call('GET', key('mover')) == ARGV[1] then redis.call('DEL', key('mover')) end
  return 0
end
local chain = redis.call('GET', key('chain')) or ''
if chain == ARGV[4] then return 0 end -- the call before this one was carried out, and its reply lost
if chain ~= ARGV[3] then return -1 end
if #redis.call('XRANGE', key('audit'), '-', '(' .. ARGV[2]) ~= tonumber(ARGV[5]) then return -1 end
redis.call('SET', key('chain'), ARGV[4])
return redis.call('XTRIM', key('audit'), 'MINID', ARGV[2])
