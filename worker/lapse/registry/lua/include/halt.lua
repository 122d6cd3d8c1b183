-- @include registry/lua/include/slot
-- Sets a halt as control.py does: once, counted, with its record; a step of the ramp begins anew.
-- policy: '*' for the whole kind; reason; detail: text; counted: the policy it is counted under.
-- began: since when (ms) that went on which it is about, or nil.
local function halt(policy, reason, detail, counted, began)
  local more = began and string.format(',"began":%.0f', began) or ''
  local stored = string.format('{"since":%.0f,"detail":%s%s}', now, text(detail), more)
  if redis.call('HSETNX', key('halts'), policy .. '|' .. reason, stored) == 0 then return end
  counted = counted or policy
  count('guard_trips|' .. counted .. '|' .. reason)
  if counted ~= '*' and redis.call('HEXISTS', part(counted, 'rules'), 'ramp_cap') == 1 then
    redis.call('HSET', part(counted, 'rules'), 'ramp_from', now)
  end
  audit('halted', '', policy, ',"reason":' .. text(reason) .. ',"detail":' .. text(detail) .. ',"actor":"lapse"')
end
