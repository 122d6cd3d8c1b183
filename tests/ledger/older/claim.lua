-- @include full
-- @include candidates
-- @include budget
-- @include lease
-- Leases due ids of a partition to one worker. A hold, touch, forget or new rule acknowledged before this always wins.
-- ARGV[3]: policy, [4]: digest, [5]: limit, [6]: lease (ms), [7]: 1 for one id that crashed a worker before,
-- [8], [9]: max_deletions and its window (ms), -1: unlimited, [10]: ramp (ms), -1: off, [11]: worker, [12]: most audit records pending,
-- [13]: the epoch that the rules were adopted under, [14], [15]: between which Redis TIME has to be; '' each: not checked.
-- Returns {status, now, token, parked, [id, due, by, attempts, unknown]...};
-- status: ok | halted | lost (another epoch) | superseded | clock | limited | audit.

local policy, digest, limit, lease, alone = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'

local function nothing(status) return { status, now, 0, 0 } end

local bar = barred(policy, digest, ARGV[13], ARGV[14], ARGV[15])
if bar then return nothing(bar) end
if redis.call('XLEN', key('audit')) >= tonumber(ARGV[12]) then return nothing('audit') end
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
      take(id, record)
      if not record.q then index(id, record) end
    end
  end
else
  found = candidates(policy, rules, limit)
end
if #found == 0 then return nothing('ok') end

local state = numbers(policy)
local function due_now() return due_count(policy, rules) end
local room = math.min(pace_room(policy, state, tonumber(ARGV[8]), tonumber(ARGV[9])),
                      ramp_room(policy, state, tonumber(ARGV[10]), due_now))
if room <= 0 then return nothing('limited') end

local token = redis.call('HINCRBY', key('marks'), 'fence', 1)
local reply, parked, granted = { 'ok', now, token, 0 }, 0, 0
for i = 1, math.min(#found, limit) do
  local one = found[i]
  if granted >= room then break end
  if guarded(one.id, one.record) then
    parked = parked + 1
  else
    grant(one.id, one.record, token, lease, string.format(
      ',"due":%.0f,"by":"%s","rules":"%s","worker":%s', one.due, one.by, digest, text(ARGV[11])))
    granted = granted + 1
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = one.id, one.due, one.by
    reply[n + 4], reply[n + 5] = one.record.n or 0, one.record.u or 0
  end
end
spend(policy, granted)
reply[4] = parked
return reply
