-- @include halt
-- The last answers of a policy that ended an id, "d" for a confirmed deletion and "g" for one that was gone already, however
-- long they took: where too many are gone, the next one is not believed. A wrong place and an emptied account look alike.

-- Adds an answer; returns false, and halts, if it is one too many. wall: {percent, at_least}.
local function wall_allows(policy, letter, wall)
  local rules = part(policy, 'rules')
  local size = 2 * wall.at_least
  local window = string.sub((redis.call('HGET', rules, 'wall') or '') .. letter, -size)
  local _, gone = string.gsub(window, 'g', '')
  local began = tonumber(redis.call('HGET', rules, 'wall_since') or nil) or now
  if letter == 'g' and gone > math.max(wall.at_least, wall.percent * #window / 100) then
    halt(policy, 'gone_wall', string.format(
      '%d of the last %d ids of this policy were not there: they would all be settled as already gone', gone, #window),
      policy, began)
    return false
  end
  if gone == 0 or (letter == 'g' and gone == 1) then redis.call('HSET', rules, 'wall_since', now) end
  redis.call('HSET', rules, 'wall', window)
  return true
end
