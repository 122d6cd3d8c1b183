-- @include registry/lua/include/slot
-- Sets a halt: once, counted, with its record; a step of the ramp begins anew. True if it is new.
-- policy: '*' for the whole kind; reason; detail: text; counted: the policy it is counted under, or nil.
-- began: since when (ms) that went on which it is about, plan: what answers it; or nil.
-- It stands before it is counted. A script that ended between the two is known by "new", and the next one counts: a trip
-- may be counted twice, and is never lost.
local function halt(policy, reason, detail, counted, began, plan)
  local field = policy .. '|' .. reason
  local more = began and string.format(',"began":%.0f', began) or ''
  if plan then more = more .. ',"plan":' .. text(plan) end
  local stored = string.format('{"since":%.0f,"detail":%s%s', now, text(detail), more)
  if redis.call('HSETNX', key('halts'), field, stored .. ',"new":1}') == 0 then
    if not cjson.decode(redis.call('HGET', key('halts'), field)).new then return false end
  end
  counted = counted or policy
  count('guard_trips|' .. counted .. '|' .. reason)
  if counted ~= '*' and redis.call('HEXISTS', part(counted, 'rules'), 'ramp_cap') == 1 then
    redis.call('HSET', part(counted, 'rules'), 'ramp_from', now)
  end
  audit('halted', '', policy, ',"reason":' .. text(reason) .. ',"detail":' .. text(detail) .. ',"actor":"lapse"')
  redis.call('HSET', key('halts'), field, stored .. '}')
  return true
end
