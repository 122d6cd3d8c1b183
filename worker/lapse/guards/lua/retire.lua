-- @include registry/lua/include/full
-- @include registry/lua/include/slot
-- Ends a policy that a worker swept and whose file no longer has it: claims by the rules it had are refused from now on.
-- So ends a name that went to another policy ("formerly"), once the rules in force of that one do not say it any more.
-- ARGV[3]: policy, [4]: the worker's name, the same for all its processes, [5]: how long it is remembered what it swept with (ms),
-- [6...]: the digests of its file's rules, none of which have or had the policy.
-- Returns 1 if the policy ended, 0 if this worker never swept it, or another one has newer rules of it.
-- @policy ARGV[3]
-- @part used:ARGV[4]

local policy = ARGV[3]
local rules = part(policy, 'rules')
local used = part(policy, 'used') .. ':' .. ARGV[4]
local last = string.match(redis.call('GET', used) or '', '^(%S+)')
local stored = redis.call('HMGET', rules, 'digest', 'superseded', 'renamed')
local digest = stored[1]

-- Whether no rules in force say any more that a name is theirs: this file's are, or none.
local function dropped(by)
  local current = redis.call('HGET', part(by, 'rules'), 'digest')
  for i = 6, #ARGV do
    if ARGV[i] == current then return true end
  end
  return not current
end

local over
if digest and stored[3] then over = dropped(stored[3]) else over = digest and digest == last end
if not over then
  if last and last ~= '-' then redis.call('SET', used, '- ' .. last, 'PX', ARGV[5]) end
  return 0
end
redis.call('HSET', rules, 'superseded', string.sub(digest .. ' ' .. (stored[2] or ''), 1, 800))
redis.call('HDEL', rules, 'digest', 'acted', 'ttl', 'anchor', 'max_age', 'orphan', 'along', 'renamed', 'inherited')
audit('rules', '', policy, ',"rules":"","before":' .. text(digest))
redis.call('SET', used, '- ' .. digest, 'PX', ARGV[5]) -- last: until then it is asked again
return 1
