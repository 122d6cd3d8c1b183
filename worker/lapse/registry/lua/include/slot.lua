-- @include registry/lua/include/keys
-- What a script knows of its slot. ARGV[1], ARGV[2]: provider and kind, for audit records.
-- Times are whole milliseconds of Redis TIME.

local provider, kind = ARGV[1], ARGV[2]

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function count(field, by) redis.call('HINCRBY', key('counters'), field, by or 1) end

-- Only ids, names and numbers enter here without escaping: their characters need none.
local function write_event(stream, event, id, policy, more)
  redis.call('XADD', key(stream), '*', 'e', string.format(
    '{"at":%.0f,"event":"%s","provider":"%s","kind":"%s","id":"%s","policy":"%s"%s}',
    now, event, provider, kind, id, policy, more or ''))
end

local function audit(event, id, policy, more) write_event('audit', event, id, policy, more) end

-- What applications do: their Redis user may not write to the audit itself, and audit_read.lua takes it there.
local function act(event, id, policy, more) write_event('acts', event, id, policy, more) end

local function text(value) return cjson.encode(tostring(value)) end
