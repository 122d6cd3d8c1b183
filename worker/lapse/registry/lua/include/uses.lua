-- What an id refers to: the list in its facts, and edges that nothing may have any more.

-- What an earlier life let go of, and nobody has removed yet, is used again.
local function use_again(id, uses)
  local waiting = redis.call('HGET', key('released'), id)
  if not waiting then return end
  local again, left = {}, {}
  for _, edge in ipairs(uses) do again[edge] = true end
  for _, edge in ipairs(cjson.decode(waiting)) do
    if not again[edge] then left[#left + 1] = edge end
  end
  if #left > 0 then redis.call('HSET', key('released'), id, cjson.encode(left)) else redis.call('HDEL', key('released'), id) end
end

-- Adds edges that are not named yet to a list, in the time of one look each.
local function add(uses, edges)
  local named = {}
  for _, edge in ipairs(uses) do named[edge] = true end
  for _, edge in ipairs(edges) do
    if not named[edge] then
      named[edge] = true
      uses[#uses + 1] = edge
    end
  end
  return uses
end

-- Hands edges that were written for an id that does not get them to whoever removes them in their slots.
local function take_back(id, edges)
  local stored = redis.call('HGET', key('facts'), id)
  local named, waiting = {}, redis.call('HGET', key('released'), id)
  for _, edge in ipairs(stored and cjson.decode(stored).uses or {}) do named[edge] = true end
  local left = {}
  for _, edge in ipairs(edges) do
    if not named[edge] then left[#left + 1] = edge end
  end
  if #left > 0 then redis.call('HSET', key('released'), id, cjson.encode(add(waiting and cjson.decode(waiting) or {}, left))) end
end
