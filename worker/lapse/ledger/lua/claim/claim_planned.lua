-- @include ledger/lua/include/batch
-- @include registry/lua/include/due
-- Leases ids of a plan to one worker: each as it stood when the plan was made, or not at all.
-- ARGV[3]: request.lua's, with wanted: [{id, due}], plan: its hash, and alone: true for ids that crashed a worker before.
-- Returns {status, now, token, 0, JSON {id: why it was left out}, [id, due, by, attempts, unknown]...}; status as claim.lua.
-- An id that is neither left out nor leased was beyond what pace and ramp allow.

local again = replied()
if again then return again end

local bar = closed()
if bar then return nothing(bar) end
lapsed(policy, 200)
end_holds()

local rules, wanted = rules_of(policy), request.wanted
local room = room_for(function() return #wanted end)
if room <= 0 then return nothing('limited') end

-- Why a planned id is not as it was; nil, and by what it is due, if it is.
local function changed(one, record)
  if not record or record.q then return redis.call('ZSCORE', key('forgotten'), one.id) and 'forgotten' or 'not tracked any more' end
  if record.p ~= policy then return 'moved to ' .. record.p end
  if record.s == 'claimed' or record.s == 'quarantined' or record.s == 'kept' then return record.s end
  if record.s == 'waiting' and record.d > now then return 'backed off' end
  local due, by = due_of(record, rules)
  if not due or due > now then return 'not due any more' end
  if due ~= one.due then return 'touched, or given another expiry' end
  if record.x and not alone then return 'crashed a worker since' end
  one.by = by
end

local reply, left, plan = opened(), {}, ',"plan":' .. text(request.plan)
for _, one in ipairs(wanted) do
  if granted(reply) >= room then break end
  local record = locate(one.id)
  local why = changed(one, record) or guarded(one.id, record)
  if why then
    left[one.id] = why
  else
    lease(reply, one, record, plan)
  end
end
spend(policy, granted(reply))
if next(left) then reply[5] = cjson.encode(left) end
return granted(reply) > 0 and granting(reply) or reply
