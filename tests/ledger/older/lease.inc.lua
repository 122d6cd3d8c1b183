-- @include edges
-- Claims: leasing an id to one worker, and what happens when the lease runs out.

-- Parks an id that must not be deleted now; true if it was.
local function guarded(id, record)
  local reason
  if redis.call('HEXISTS', key('holds'), id) == 1 then
    reason = 'held'
  elseif protected(id, redis.call('HGET', part(record.p, 'rules'), 'along') or nil) then
    reason = 'referenced'
  end
  if not reason then return false end
  take(id, record)
  if not record.q then
    record.r = reason
    set_aside(id, record, 'parked', now)
  end
  return true
end

local function grant(id, record, token, lease, why)
  take(id, record)
  record.t, record.r = token, nil
  set_aside(id, record, 'claimed', now + lease)
  audit('intent', id, record.p, string.format(',"token":%.0f,"attempt":%d%s', token, (record.n or 0) + 1, why))
end

local function quarantine(id, record, reason, detail)
  record.r, record.t, record.m = reason, nil, detail
  set_aside(id, record, 'quarantined', now)
end

-- A lease that ran out counts a crash, not an attempt; ids with a crash are claimed one at a time from then on.
local function lapse(id, record)
  take(id, record)
  audit('lapsed', id, record.p, string.format(',"token":%.0f', record.t))
  count('crashes|' .. record.p)
  if record.x then record.y = (record.y or 0) + 1 end
  record.x, record.u, record.t, record.o = (record.x or 0) + 1, 1, nil, not record.z and record.o or nil
  local foreign = record.z and record.q
  record.z = nil
  if record.g or foreign then
    release_edges(id)
  elseif (record.y or 0) >= 3 then
    quarantine(id, record, 'crashes', 'three workers ended while deleting it alone')
  elseif redis.call('HEXISTS', key('holds'), id) == 1 then
    record.r = 'held'
    set_aside(id, record, 'parked', now)
  else
    set_aside(id, record, 'waiting', now)
  end
end

local function lapsed(policy, limit)
  for _, id in ipairs(redis.call('ZRANGE', part(policy, 'claims'), '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)) do
    lapse(id, aside(id))
  end
end

-- What a keep rule kept is looked at again: its name or metadata may have changed.
local function look_again(policy)
  for _, id in ipairs(redis.call('ZRANGE', part(policy, 'kept'), '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
    unpark(id, aside(id))
  end
end

-- Where no listing comes any more, what a deletion as an orphan was tried of is a resource like any other.
local function unlisted(policy)
  for _, id in ipairs(redis.call('ZRANGE', part(policy, 'tried'), 0, 99)) do
    local record = aside(id)
    take(id, record)
    record.o = nil
    set_aside(id, record, 'waiting', record.d)
  end
end

local function end_holds()
  for _, id in ipairs(redis.call('ZRANGE', key('hold_ends'), '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
    redis.call('ZREM', key('hold_ends'), id)
    redis.call('HDEL', key('holds'), id)
    local record = aside(id)
    if record and record.s == 'parked' and record.r == 'held' then unpark(id, record) end
    audit('hold_ended', id, record and record.p or '')
  end
end

-- The reasons for which a partition is halted. A config_divergence concerns the worker with the old rules alone.
local function halted(policy)
  local reasons = {}
  for _, field in ipairs(redis.call('HKEYS', key('halts'))) do
    local scope, reason = string.match(field, '^(.*)|(.*)$')
    if (scope == policy or scope == '*') and reason ~= 'config_divergence' then reasons[#reasons + 1] = reason end
  end
  return reasons
end

-- Why nothing of this partition may be claimed now, or nil. A claim insists on the epoch that its rules were adopted
-- under, and on the Redis TIME that its worker expects; '' or nil: on none.
local function barred(policy, digest, epoch, earliest, latest)
  if #halted(policy) > 0 then return 'halted' end
  local rules = redis.call('HMGET', part(policy, 'rules'), 'digest', 'epoch')
  if epoch and epoch ~= '' and rules[2] ~= epoch then return 'lost' end
  if rules[1] ~= digest then return 'superseded' end
  if tonumber(earliest) and (now < tonumber(earliest) or now > tonumber(latest)) then return 'clock' end
end
