-- @include registry/lua/include/record
-- @include registry/lua/include/subjects
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

-- Hands the edges of a settled or released source to whoever removes them in the slots of their targets.
local function release_edges(id)
  local facts = facts_of(id)
  if not facts then return 0 end
  local uses = facts.uses
  unindex_subjects(id, facts)
  if not uses then
    redis.call('HDEL', key('facts'), id)
    return 0
  end
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
  redis.call('HDEL', key('facts'), id) -- last: whatever ends the script before, the edges are still somebody's to remove
  return 1
end

-- Ends an id that was forgotten under a claim, or that only a purge knew of: what it uses stays protected unless released.
local function untrack(id, record)
  if record.g == 1 then
    disown(id)
    return 0
  end
  return release_edges(id)
end
