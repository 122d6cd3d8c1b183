-- @include registry/lua/include/packed
-- A record says where an id stands and with which scores:
--   p policy   s tracked|claimed|waiting|parked|kept|quarantined
--   f never touched: creation   a, c touched: last activity, creation   e, k own expiry, creation
--   n attempts   x crashes   y crashes alone   u an earlier attempt ended unknown   r reason
--   t token   d its score outside the due indexes: lease deadline, next attempt, or since when
--   h touched since it was settled as already gone
--   v identities under which it was not found, and not proven gone   b the one under which an operator expects that
--   w when it last got an answer that may be all of its kind's
--   l registered under another policy while claimed: it moves there when the claim ends
--   g forgotten while claimed: 1, or 2 if it needs nothing of what it uses   o claimed as an orphan   q one that is not registered: it carries our stamp, or is purged   z claimed by a purge or an erasure
--   i when an erasure claimed it last   j the subject with whose data it goes, of one that names none itself

local place_of = { claimed = 'claims', waiting = 'waiting', parked = 'parked', kept = 'kept', quarantined = 'quarantine' }

-- The record of a touched id by its score. Without a creation, an older client touched it where it was packed: that is then
-- its last activity, which is no earlier.
local function touched_record(policy, score, creation_beside)
  local active, created = score, nil
  if is_packed(score) then active, created = unpacked(score) else created = tonumber(creation_beside() or nil) or active end
  return { p = policy, s = 'tracked', a = active, c = created }
end

-- The policy under which this script found an id's creation packed.
local packed_under = {}

local function in_indexes(policy, id)
  local fresh = redis.call('ZSCORE', part(policy, 'fresh'), id)
  if fresh then return { p = policy, s = 'tracked', f = tonumber(fresh) } end
  local active = redis.call('ZSCORE', part(policy, 'active'), id)
  if active then
    packed_under[id] = is_packed(tonumber(active)) and policy or nil
    return touched_record(policy, tonumber(active), function() return redis.call('ZSCORE', part(policy, 'created'), id) end)
  end
  local expiry = redis.call('ZSCORE', part(policy, 'explicit'), id)
  if expiry then
    return { p = policy, s = 'tracked', e = tonumber(expiry),
             k = tonumber(redis.call('ZSCORE', part(policy, 'capped'), id)) }
  end
end

local function aside(id)
  local stored = redis.call('HGET', key('aside'), id)
  return stored and cjson.decode(stored) or nil
end

local function locate(id, policies)
  local record = aside(id)
  if record then return record end
  for _, policy in ipairs(policies or redis.call('SMEMBERS', key('policies'))) do
    record = in_indexes(policy, id)
    if record then return record end
  end
end

-- The sorted sets in which a record stands.
local function places(record)
  local found = {}
  local function add(name) found[#found + 1] = part(record.p, name) end
  if record.s == 'tracked' then
    if record.f then add('fresh') end
    if record.a then add('active') add('created') end
    if record.e then add('explicit') add('capped') end
  elseif record.s then
    add(place_of[record.s])
    if record.s == 'waiting' then add('suspects') add('tried') end
  end
  return found
end

local function remove(id, from)
  for _, place in ipairs(from) do redis.call('ZREM', place, id) end
end

-- Takes the id out of wherever it stands.
local function take(id, record)
  if record.s and record.s ~= 'tracked' then redis.call('HDEL', key('aside'), id) end
  remove(id, places(record))
end

-- The id goes from where it stands to another place. It leaves the one when it has come to the other, so that it stands
-- somewhere at every call: a script that ends in the middle loses none.
local lifted = {}

local function lift(id, record)
  lifted[id] = { places = places(record), aside = record.s and record.s ~= 'tracked' }
end

local function landed(id, indexed, ...)
  local from = lifted[id]
  if not from then return end
  lifted[id] = nil
  local here = {}
  for _, place in ipairs({ ... }) do here[place] = true end
  for _, place in ipairs(from.places) do
    if not here[place] then redis.call('ZREM', place, id) end
  end
  if indexed and from.aside then redis.call('HDEL', key('aside'), id) end -- last: sent again, it is found there
end

-- Puts the id into the due indexes; attempts and reasons end here. Its creation stands first: it is known by the other.
local function index(id, record)
  local p = record.p
  if record.e then
    redis.call('ZADD', part(p, 'capped'), record.k, id)
    redis.call('ZADD', part(p, 'explicit'), record.e, id)
    landed(id, true, part(p, 'explicit'), part(p, 'capped'))
  elseif record.a and packed_under[id] == p then
    redis.call('ZADD', part(p, 'active'), pack(record.a, record.c), id)
    landed(id, true, part(p, 'active'))
  elseif record.a then
    redis.call('ZADD', part(p, 'created'), record.c, id)
    redis.call('ZADD', part(p, 'active'), record.a, id)
    landed(id, true, part(p, 'active'), part(p, 'created'))
  else
    redis.call('ZADD', part(p, 'fresh'), record.f, id)
    landed(id, true, part(p, 'fresh'))
  end
end

-- Keeps the id outside the due indexes: state, and the score it has there.
local function set_aside(id, record, state, score)
  record.s, record.d = state, score
  -- Without a sighting no listing would ever end this wait.
  if state == 'waiting' and redis.call('HEXISTS', part(record.p, 'sightings'), id) == 0 then record.o = nil end
  local where = place_of[state]
  if state == 'waiting' and record.x then where = 'suspects' end
  -- Only a listing can say whether it is an orphan still: no lease that ran out makes it due.
  if state == 'waiting' and record.o then where = 'tried' end
  redis.call('ZADD', part(record.p, where), score, id)
  redis.call('HSET', key('aside'), id, cjson.encode(record))
  landed(id, false, part(record.p, where))
end

-- Rewrites the record of an id that stays where it is, outside the due indexes.
local function amend(id, record)
  redis.call('HSET', key('aside'), id, cjson.encode(record))
end

-- A parked id comes back: to the due indexes, or to its next attempt if it had one.
local function unpark(id, record)
  if record.q then return take(id, record) end
  lift(id, record)
  record.r, record.d = nil, nil
  if record.n or record.x or record.u then set_aside(id, record, 'waiting', now) else index(id, record) end
end

-- How many items of a claimed id progress.lua has counted under a token, and the field that says so.
local function progress(id, token)
  local field = string.format('progress|%.0f|%s', token, id)
  return tonumber(redis.call('HGET', key('counters'), field) or nil) or 0, field
end

local function creation(record) return record.f or record.c or record.k end
