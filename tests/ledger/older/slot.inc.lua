-- KEYS[1]: the prefix of a slot, "<namespace>:{<provider>:<kind>}:". Every key a script touches begins with it.
-- ARGV[1], ARGV[2]: provider and kind, for audit records.
-- Times are whole milliseconds of Redis TIME.

local slot, provider, kind = KEYS[1], ARGV[1], ARGV[2]

local function key(name) return slot .. name end

local function part(policy, index) return slot .. policy .. ':' .. index end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function count(field, by) redis.call('HINCRBY', key('counters'), field, by or 1) end

-- Only ids, names and numbers enter here without escaping: their characters need none.
local function audit(event, id, policy, more)
  redis.call('XADD', key('audit'), '*', 'e', string.format(
    '{"at":%.0f,"event":"%s","provider":"%s","kind":"%s","id":"%s","policy":"%s"%s}',
    now, event, provider, kind, id, policy, more or ''))
end

local function text(value) return cjson.encode(tostring(value)) end
