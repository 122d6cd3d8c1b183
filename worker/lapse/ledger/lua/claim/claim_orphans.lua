-- @include ledger/lua/include/batch
-- @include ledger/lua/include/orphan
-- Leases orphan candidates to one worker. Refuses whatever was named, held, touched, registered or forgotten since it was first seen.
-- ARGV[3]: request.lua's, with wanted: [{id, first}], and alone: true for ids that crashed a worker before.
-- Returns as claim.lua.

local again = replied()
if again then return again end
local bar = closed()
if bar then return nothing(bar) end
-- An application could not say all that it uses, and no operator knows yet.
local unsaid = redis.call('HGET', key('said'), 'unsaid')
if unsaid and redis.call('HGET', part(policy, 'rules'), 'unsaid_seen') ~= unsaid then return nothing('halted') end

-- Every claim rests on a sighting of the last listing: nothing that changed since is covered by it.
local function still(id, first)
  local one = sighting(policy, id)
  if not one or one.first ~= first then return nil end
  local why, record = spared(policy, id, one.m, one)
  if why or used_since(id, record, one) then return nil end
  if record.s == 'waiting' and record.d > now then return nil end
  if (record.x ~= nil) ~= alone then return nil end
  return record
end

local room = room_for(function() return #request.wanted end)
if room <= 0 then return nothing('limited') end

local reply = opened()
for _, one in ipairs(request.wanted) do
  if granted(reply) >= room then break end
  local record = still(one.id, one.first)
  if record then
    record.o = 1
    lease(reply, { id = one.id, due = one.first, by = 'orphan' }, record)
  end
end
spend(policy, granted(reply))
return granted(reply) > 0 and granting(reply) or reply
