-- @include registry/lua/include/record
-- @include registry/lua/include/subjects
-- What a hold says. Half of a character, which clients took before, is no JSON to cjson: it must hide no other record.
local function hold_in(stored)
  local readable, hold = pcall(cjson.decode, stored)
  if not readable then readable, hold = pcall(cjson.decode, (string.gsub(stored, '\\u[dD][89a-fA-F]%x%x', '\\ufffd'))) end
  return readable and hold or { reason = 'cannot be read', actor = '', since = 0 }
end

local function own_hold(id)
  local stored = redis.call('HGET', key('holds'), id)
  return stored and hold_in(stored) or nil
end

-- The hold of an id: its own, or that of a subject whose data it is.
local function hold_of(id)
  local own = own_hold(id)
  if own then return own end
  local of_subject, subject = subject_hold(id)
  if not of_subject then return nil end
  local hold = hold_in(of_subject)
  hold.subject = subject
  return hold
end
