-- @include registry/lua/include/due
-- @include registry/lua/include/holds
-- @include registry/lua/include/edges
-- What of a page of one index a sweep would claim, by rules that need not be in force. Reads only, and many ids at once.
-- ARGV[3]: JSON {index, policy: whose it is ('': the slot's), cut, from: the page's first rank, most: how many stand in it,
-- names: {every name of the rules' policy: true}, rules: as due.lua has them}.
-- Returns JSON {read: how many stood there, found: [[id, due, by, turn]...]}; turn: -1, or of one that a worker ended on
-- when that was over.
-- @key ARGV[3].index
-- @part ARGV[3].index
-- @policy ARGV[3].policy

local asked = cjson.decode(ARGV[3])
local place = asked.policy == '' and key(asked.index) or part(asked.policy, asked.index)
local page = redis.call('ZRANGE', place, asked.from, asked.from + asked.most - 1, 'WITHSCORES')
local ids, scores = {}, {}
for i = 1, #page, 2 do
  local score = tonumber(page[i + 1])
  if score > asked.cut then break end
  ids[#ids + 1], scores[#scores + 1] = page[i], score
end
if #ids == 0 then return '{"read":0,"found":[]}' end

-- The page's ids in an index of the policy, read when the first is asked for.
local columns = { [asked.index] = scores }
local function score_in(index, i)
  columns[index] = columns[index] or redis.call('ZMSCORE', part(asked.policy, index), unpack(ids))
  return tonumber(columns[index][i] or nil)
end

-- As in_indexes of record.lua.
local function tracked(i)
  if asked.policy == '' then return nil end
  local fresh = score_in('fresh', i)
  if fresh then return { p = asked.policy, s = 'tracked', f = fresh } end
  local active = score_in('active', i)
  if active then return touched_record(asked.policy, active, function() return score_in('created', i) end) end
  local expiry = score_in('explicit', i)
  return expiry and { p = asked.policy, s = 'tracked', e = expiry, k = score_in('capped', i) }
end

local held_ids, used_at_all = redis.call('HMGET', key('holds'), unpack(ids)), redis.call('ZCARD', key('edges')) > 0

local function held_now(i)
  if not held_ids[i] and not any_subject_held() then return false end
  local hold = hold_of(ids[i])
  return hold and (not hold['until'] or hold['until'] > now)
end

-- Whether neither its state nor a hold nor a use is in the way.
local function claimable(i, record)
  local state = record.s
  if state == 'waiting' or state == 'claimed' then
    if record.d > now then return false end
  elseif state ~= 'tracked' and not (state == 'parked' and record.r == 'held') then
    return false
  end
  return not held_now(i) and not (used_at_all and referenced(ids[i]))
end

local found, stored = {}, redis.call('HMGET', key('aside'), unpack(ids))
for i, id in ipairs(ids) do
  local record = stored[i] and cjson.decode(stored[i]) or tracked(i)
  if record and asked.names[record.l or record.p] then
    local due, by = due_of(record, asked.rules)
    if due and due <= now and claimable(i, record) then
      found[#found + 1] = { id, due, by, (record.x or record.s == 'claimed') and record.d or -1 }
    end
  end
end
return '{"read":' .. #ids .. ',"found":' .. (#found > 0 and cjson.encode(found) or '[]') .. '}'
