-- @include registry/lua/include/record
-- @include registry/lua/include/subjects
-- What a hold, of an id or of a subject, does to an id that is tracked.

-- Parks it. Returns ok | too_late (a claim is out; no further attempt is made).
local function park(id, record)
  if record.s == 'claimed' then return 'too_late' end
  if record.s ~= 'quarantined' and record.r ~= 'held' then
    lift(id, record)
    record.r = 'held'
    set_aside(id, record, 'parked', now)
  elseif record.r == 'held' then
    -- It was parked by a call that ended before it had left where it stood.
    for _, name in ipairs({ 'fresh', 'active', 'created', 'explicit', 'capped' }) do redis.call('ZREM', part(record.p, name), id) end
  end
  return 'ok'
end

-- An id's own hold ends: it comes back to where it would stand without it, unless its subject is held.
local function let_go(id, record)
  if record and record.s == 'parked' and record.r == 'held' and not subject_hold(id) then unpark(id, record) end
end
