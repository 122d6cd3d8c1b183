-- Names of a slot's keys. Each begins with the slot's prefix, "<namespace>:{<provider>:<kind>}:"; KEYS[1] is that alone, or on
-- a cluster KEYS are all keys that the script may touch (registry/pools/declared.py): while a hash slot moves, any other key
-- may be at its next node already, would be missed here, and be written anew.

local slot = string.match(KEYS[1], '^[^}]*}:')

local function key(name) return slot .. name end

local function part(policy, index) return slot .. policy .. ':' .. index end

-- Answers who declared the keys of other policies, or other requests to erase, than the slot has: these are to be declared.
local function again(what, names, key_of)
  local declared = {}
  for _, name in ipairs(KEYS) do declared[name] = true end
  for _, name in ipairs(names) do
    if not declared[key_of(name)] then return redis.error_reply('LAPSE-AGAIN ' .. what .. ' ' .. cjson.encode(names)) end
  end
end

if #KEYS > 1 then
  local refused = again('policies', redis.call('SMEMBERS', key('policies')), function(name) return part(name, 'rules') end)
  if refused then return refused end
end
