-- @include registry/lua/include/full
-- @include registry/lua/include/slot
-- Ends a policy that a worker swept and whose file no longer has it: claims by the rules it had are refused from now on.
-- ARGV[3]: policy, [4]: the worker's name, the same for all its processes, [5]: how long it is remembered what it swept with (ms).
-- Returns 1 if the policy ended, 0 if this worker never swept it, or another one has newer rules of it.
-- @policy ARGV[3]
-- @part used:ARGV[4]

local policy = ARGV[3]
local rules = part(policy, 'rules')
local used = part(policy, 'used') .. ':' .. ARGV[4]
local last = string.match(redis.call('GET', used) or '', '^(%S+)')
if not last or last == '-' then return 0 end
local stored = redis.call('HMGET', rules, 'digest', 'superseded', 'renamed')
if stored[1] ~= last or stored[3] then
  redis.call('SET', used, '- ' .. last, 'PX', ARGV[5])
  return 0
end
redis.call('HSET', rules, 'superseded', string.sub(last .. ' ' .. (stored[2] or ''), 1, 800))
redis.call('HDEL', rules, 'digest', 'acted', 'ttl', 'anchor', 'max_age', 'orphan', 'along')
audit('rules', '', policy, ',"rules":"","before":' .. text(last))
redis.call('SET', used, '- ' .. last, 'PX', ARGV[5]) -- last: until then it is asked again
return 1
