-- @include ledger/lua/include/lease
-- How a child of something that is about to be deleted stands: the same for a look at all of them, and for each claim.
-- asked: {going: sources that go with it, named: true if one of these has to say in its uses that it uses the child,
--   stamped: policy in its stamp or '', since: when the parent was leased, active: its last activity,
--   rules: as claim_child.lua takes them, and subject: whose data is erased, if that is why, epoch, earliest, latest}.

local policies = redis.call('SMEMBERS', key('policies'))

local function named_by(id, going)
  for _, source in ipairs(going) do
    if redis.call('ZSCORE', key('edges'), id .. '|' .. source) then return true end
  end
end

-- True if it is the data of somebody else than the subject that is erased.
local function somebody_elses(id, subject)
  for _, one in ipairs(subjects_in(facts_of(id))) do
    if one ~= subject then return true end
  end
end

-- Why it stays, whenever one asks.
local function spared(id, record, rule, asked)
  if held(id) then return 'held' end
  if used_otherwise(id, asked.going) then return 'used' end
  -- An id that somebody wrote into a body may be anybody's: only what the application said counts.
  if asked.named and not named_by(id, asked.going) then return record.q and 'foreign' or 'unnamed' end
  -- Mode, keep, and what was used since are no objection to an erasure.
  local subject = asked.rules.subject
  if subject then return somebody_elses(id, subject) and 'shared' or nil end
  if (record.a or record.f or 0) >= asked.since then return 'active' end
  if record.a and asked.active and record.a > asked.active then return 'active' end
  if record.s == 'quarantined' then return 'quarantined' end
  if record.s == 'kept' and record.d > now then return 'kept' end
  if rule and not rule.enforce then return 'observed' end
  -- A policy of another worker's file, or of an earlier one: its rules are not known here.
  if not rule and redis.call('HEXISTS', part(record.p, 'rules'), 'since') == 1 then return 'observed' end
end

-- Why it cannot be claimed at this moment.
local function delayed(record, rule, asked)
  if record.s == 'claimed' then return 'claimed' end
  if record.s == 'waiting' and record.d > now then return 'waiting' end
  if rule and rule.paused or asked.rules.paused then return 'paused' end
  if #halted(record.p) > 0 then return 'halted' end
  if #damaged() > 0 then return 'damaged' end
  local place = redis.call('HGET', key('marks'), 'place')
  if place and place ~= asked.rules.place then return 'elsewhere' end
  local known = redis.call('HMGET', part(record.p, 'rules'), 'digest', 'epoch')
  if rule and known[1] and known[1] ~= rule.digest then return 'superseded' end
  if known[2] and asked.epoch ~= '' and known[2] ~= asked.epoch then return 'lost' end
  if tonumber(asked.earliest) and (now < tonumber(asked.earliest) or now > tonumber(asked.latest)) then return 'clock' end
end

-- Returns nil where nothing is in the way, or a status, and its record: gone (settled before); foreign, held, used,
-- unnamed, shared (another subject's, in an erasure), active, kept, quarantined, observed (it stays); claimed, waiting, paused, halted, superseded, lost, clock,
-- elsewhere (ids of another account), damaged (not now).
local function standing(id, asked)
  local record = locate(id, policies)
  if record and record.s == 'claimed' and record.d <= now then
    lapse(id, record)
    record = locate(id, policies)
  end
  if not record and redis.call('ZSCORE', key('tombstones'), id) then return 'gone' end
  if redis.call('ZSCORE', key('forgotten'), id) then return 'foreign' end
  if not record and asked.stamped == '' then return 'foreign' end
  record = record or { p = asked.stamped, q = 1 }
  local rule = asked.rules.policies[record.p]
  return spared(id, record, rule, asked) or delayed(record, rule, asked), record
end
