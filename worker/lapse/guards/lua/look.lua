-- @include registry/lua/include/full
-- Looks at the registry's epoch, makes it if there is none, and moves its sequence on, at most once a second.
-- KEYS[1]: the epoch hash. ARGV[1]: an id for an epoch that has to be made, [2]: the epoch that the caller knows, or '',
-- [3]: a salt for pseudonyms of subjects, if there is none yet, [4]: the newest sequence that the caller read.
-- A known epoch that is not here is written down as lost|<epoch>, until an operator makes it accepted|<epoch>.
-- Returns {now, epoch, sequence and when it moved on as they were, sequence now, 1 if the known epoch is this or was
-- accepted, when an operator accepted the clock or 0, where everything was moved to or '', the export that is half imported or '',
-- since when at the latest this server runs, if it lacks what the caller read, or 0}.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known = ARGV[2]
local stored = redis.call('HMGET', KEYS[1], 'id', 'sequence', 'at', 'clock_accepted', 'moved', 'importing', 'salt')
local epoch = stored[1]
if not epoch then
  epoch = ARGV[1]
  redis.call('HSET', KEYS[1], 'id', epoch, 'created', now)
end
if not stored[7] then redis.call('HSET', KEYS[1], 'salt', ARGV[3]) end
local accepted = 1
if known ~= '' and known ~= epoch and redis.call('HEXISTS', KEYS[1], 'accepted|' .. known) == 0 then
  accepted = 0
  redis.call('HSETNX', KEYS[1], 'lost|' .. known, now)
end
local sequence, at = tonumber(stored[2]) or 0, tonumber(stored[3]) or 0
local reached = sequence
if now - at >= 1000 then
  reached = sequence + 1
  redis.call('HSET', KEYS[1], 'sequence', reached, 'at', now)
end
local started = 0
if sequence < tonumber(ARGV[4]) then
  local info = redis.pcall('INFO', 'server')
  local seconds = type(info) == 'string' and string.match(info, 'uptime_in_seconds:(%d+)')
  started = seconds and now - tonumber(seconds) * 1000 + 1000 or 0 -- whole seconds: not later than that
end
return { now, epoch, sequence, at, reached, accepted, tonumber(stored[4]) or 0, stored[5] or '', stored[6] or '', started }
