-- The number of a statement about a subject: more than any before. By Redis TIME, so that a list that went back to before a
-- statement, after a crash or a failover, does not give its number to another one: a slot that knows the first would take the
-- second for it. KEYS[1]: the namespace's "held_subjects". Returns it, and the number before it, which has to be known first.

local function next_numbers()
  local before, clock = tonumber(redis.call('HGET', KEYS[1], '\31') or nil) or 0, redis.call('TIME')
  local number = math.max(before + 1, clock[1] * 1000 + math.floor(clock[2] / 1000))
  redis.call('HSET', KEYS[1], '\31', string.format('%.0f', number))
  return { number, before }
end
