-- @include ledger/lua/include/batch
-- @include ledger/lua/include/candidates
-- Leases due ids of a partition to one worker. A hold, touch, forget or new rule acknowledged before this always wins.
-- ARGV[3]: request.lua's, with limit, and alone: true for one id that crashed a worker before.
-- Returns {status, now, token, parked, '{}', [id, due, by, attempts, unknown]...};
-- status: ok | halted | lost (another epoch) | superseded | clock | limited | audit | breaker (this kind's) |
-- damaged (a key that protects ids is not whole) | subjects (one may be held that this slot does not know of).

local again = replied()
if again then return again end

local bar = closed()
if bar then return nothing(bar) end
lapsed(policy, 200)
end_holds()
look_again(policy)

local rules, found = rules_of(policy), {}
if not rules.orphan then unlisted(policy) end
if alone then
  for _, id in ipairs(redis.call('ZRANGE', part(policy, 'suspects'), '-inf', now, 'BYSCORE', 'LIMIT', 0, 1)) do
    local record = aside(id)
    local due, by = due_of(record, rules)
    if due and due <= now then found[1] = { id = id, record = record, due = due, by = by } end
    if not found[1] then
      if record.q then
        take(id, record)
      else
        lift(id, record)
        index(id, record)
      end
    end
  end
else
  -- Behind an open breaker any may be the one that is answered well: the oldest are those that were not.
  found = candidates(policy, rules, let_through() == 1 and 100 or request.limit)
  if let_through() == 1 and #found > 1 then found = { found[now % #found + 1] } end
end
if #found == 0 then return nothing('ok') end

local room = room_for(function() return due_count(policy, rules) end)
if room <= 0 then return nothing('limited') end

local reply, parked = opened(), 0
for i = 1, math.min(#found, request.limit) do
  local one = found[i]
  if granted(reply) >= room then break end
  if guarded(one.id, one.record) then
    parked = parked + 1
  else
    lease(reply, one, one.record)
  end
end
spend(policy, granted(reply))
reply[4] = parked
return granted(reply) + parked > 0 and granting(reply) or reply
