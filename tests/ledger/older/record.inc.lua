-- @include slot
-- A record says where an id stands and with which scores:
--   p policy   s tracked|claimed|waiting|parked|kept|quarantined
--   f never touched: creation   a, c touched: last activity, creation   e, k own expiry, creation
--   n attempts   x crashes   y crashes alone   u an earlier attempt ended unknown   r reason
--   t token   d its score outside the due indexes: lease deadline, next attempt, or since when
--   g forgotten while claimed   o claimed as an orphan   q one that is not registered: it carries our stamp, or is purged   z claimed by a purge

local place_of = { claimed = 'claims', waiting = 'waiting', parked = 'parked', kept = 'kept', quarantined = 'quarantine' }

local function in_indexes(policy, id)
  local fresh = redis.call('ZSCORE', part(policy, 'fresh'), id)
  if fresh then return { p = policy, s = 'tracked', f = tonumber(fresh) } end
  local active = redis.call('ZSCORE', part(policy, 'active'), id)
  if active then
    return { p = policy, s = 'tracked', a = tonumber(active),
             c = tonumber(redis.call('ZSCORE', part(policy, 'created'), id)) }
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

-- Takes the id out of wherever it stands.
local function take(id, record)
  local p = record.p
  if record.s == 'tracked' then
    if record.f then redis.call('ZREM', part(p, 'fresh'), id) end
    if record.a then
      redis.call('ZREM', part(p, 'active'), id)
      redis.call('ZREM', part(p, 'created'), id)
    end
    if record.e then
      redis.call('ZREM', part(p, 'explicit'), id)
      redis.call('ZREM', part(p, 'capped'), id)
    end
  elseif record.s then
    redis.call('HDEL', key('aside'), id)
    redis.call('ZREM', part(p, place_of[record.s]), id)
    if record.s == 'waiting' then
      redis.call('ZREM', part(p, 'suspects'), id)
      redis.call('ZREM', part(p, 'tried'), id)
    end
  end
end

-- Puts the id into the due indexes; attempts and reasons end here.
local function index(id, record)
  local p = record.p
  if record.e then
    redis.call('ZADD', part(p, 'explicit'), record.e, id)
    redis.call('ZADD', part(p, 'capped'), record.k, id)
  elseif record.a then
    redis.call('ZADD', part(p, 'active'), record.a, id)
    redis.call('ZADD', part(p, 'created'), record.c, id)
  else
    redis.call('ZADD', part(p, 'fresh'), record.f, id)
  end
end

-- Keeps the id outside the due indexes: state, and the score it has there.
local function set_aside(id, record, state, score)
  record.s, record.d = state, score
  -- Without a sighting no listing would ever end this wait.
  if state == 'waiting' and redis.call('HEXISTS', part(record.p, 'sightings'), id) == 0 then record.o = nil end
  redis.call('HSET', key('aside'), id, cjson.encode(record))
  local where = place_of[state]
  if state == 'waiting' and record.x then where = 'suspects' end
  -- Only a listing can say whether it is an orphan still: no lease that ran out makes it due.
  if state == 'waiting' and record.o then where = 'tried' end
  redis.call('ZADD', part(record.p, where), score, id)
end

-- Rewrites the record of an id that stays where it is, outside the due indexes.
local function amend(id, record)
  redis.call('HSET', key('aside'), id, cjson.encode(record))
end

-- A parked id comes back: to the due indexes, or to its next attempt if it had one.
local function unpark(id, record)
  take(id, record)
  record.r, record.d = nil, nil
  if record.q then return end
  if record.n or record.x or record.u then set_aside(id, record, 'waiting', now) else index(id, record) end
end

local function creation(record) return record.f or record.c or record.k end
