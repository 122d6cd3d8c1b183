-- @include registry/lua/include/full
-- @include registry/lua/include/number
-- Writes down for the whole namespace that a subject is to be erased, by one request more, or by one less.
-- KEYS[1]: the namespace's "held_subjects". ARGV[1]: subject, [2]: the request's id, [3]: JSON {id, at, until}, or '' to end it.
-- Returns the number of this statement, that of the one before it, and all of the subject's requests as they are stored now, or ''.

local field, requests = '\30' .. ARGV[1], {}
local stored = redis.call('HGET', KEYS[1], field)
for _, request in ipairs(stored and cjson.decode(stored) or {}) do
  if request.id ~= ARGV[2] then requests[#requests + 1] = request end
end
if ARGV[3] ~= '' then requests[#requests + 1] = cjson.decode(ARGV[3]) end
local said = #requests > 0 and cjson.encode(requests) or ''
local numbers = next_numbers() -- first: what is written down has a number that no slot has yet
if said == '' then redis.call('HDEL', KEYS[1], field) else redis.call('HSET', KEYS[1], field, said) end
return { numbers[1], numbers[2], said }
