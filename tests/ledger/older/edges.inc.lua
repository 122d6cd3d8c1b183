-- @include record
-- An edge says that a source uses a target; it stands in the target's slot as "target|provider|kind|source".

local function referenced(id)
  return redis.call('ZRANGEBYLEX', key('edges'), '[' .. id .. '|', '(' .. id .. '}', 'LIMIT', 0, 1)[1] ~= nil
end

-- Walks the sources that use a target, until the function says so of one.
local function any_source(id, says)
  local from = '[' .. id .. '|'
  while true do
    local edges = redis.call('ZRANGEBYLEX', key('edges'), from, '(' .. id .. '}', 'LIMIT', 0, 100)
    for _, edge in ipairs(edges) do
      if says(string.sub(edge, #id + 2)) then return true end
    end
    if #edges < 100 then return false end
    from = '(' .. edges[#edges]
  end
end

-- True if anything but the sources named uses a target.
local function used_otherwise(id, sources)
  local named = {}
  for _, source in ipairs(sources) do named[source] = true end
  return any_source(id, function(source) return not named[source] end)
end

-- True if anything uses a target that does not go along with it: "along" is a kind at the same provider, or nil.
local function protected(id, along)
  if not along then return referenced(id) end
  local going = provider .. '|' .. along .. '|'
  return any_source(id, function(source) return string.sub(source, 1, #going) ~= going end)
end

-- Hands the edges of a settled or forgotten source to whoever removes them in the slots of their targets.
local function release_edges(id)
  local facts = redis.call('HGET', key('facts'), id)
  if not facts then return 0 end
  redis.call('HDEL', key('facts'), id)
  local uses = cjson.decode(facts).uses
  if not uses then return 0 end
  -- An earlier life's edges may still wait here.
  local waiting = redis.call('HGET', key('released'), id)
  if waiting then
    local kept = {}
    for _, edge in ipairs(uses) do kept[edge] = true end
    for _, edge in ipairs(cjson.decode(waiting)) do
      if not kept[edge] then uses[#uses + 1] = edge end
    end
  end
  redis.call('HSET', key('released'), id, cjson.encode(uses))
  return 1
end
