-- @include registry/lua/include/slot
-- Whose data ids are. "subjects" finds ids by subject: all scores 0, "<subject>\31<id>"; an entry stands while the id's
-- facts name the subject. "subject_holds" is the slot's copy of the subjects that are held: subject -> hold (JSON), or
-- 'ended' while ids parked for it are still to be let go; its field '\31' says up to which number of the namespace's
-- "held_subjects" it is whole, and so does the field "subjects" of "protected". What is said of erasures stands there too:
-- the field '\30' and a subject has the requests to erase it, JSON [{id, at, until}]; until: what the subject's was created
-- before then belongs to it, whenever it is registered. "joined" names the subjects of which something came in since.
-- A Redis user from before these keys may not touch them: what it registers counts all the same, and is found later.

local SEPARATOR, ERASURE, ENDED = '\31', '\30', 'ended'

-- The subjects that facts name: none, one as text, or several.
local function subjects_in(facts)
  local said = facts and facts.subject
  if type(said) == 'table' then return said end
  return said and { said } or {}
end

local function facts_of(id)
  local stored = redis.call('HGET', key('facts'), id)
  return stored and cjson.decode(stored) or nil
end

local function is_of(subject, facts)
  for _, one in ipairs(subjects_in(facts)) do
    if one == subject then return true end
  end
  return false
end

-- True if anything was ever said of a subject: most often nothing was, and no fact needs to be read.
local any_held
local function any_subject_held()
  if any_held == nil then any_held = redis.pcall('EXISTS', key('subject_holds')) == 1 end
  return any_held
end

-- A worker looks whether what came in of a subject belongs to a request to erase it.
local function joins(subject)
  if any_subject_held() and redis.call('HEXISTS', key('subject_holds'), ERASURE .. subject) == 1 then
    redis.pcall('SADD', key('joined'), subject)
  end
end

local function index_subjects(id, facts)
  for _, subject in ipairs(subjects_in(facts)) do
    if redis.pcall('ZADD', key('subjects'), 0, subject .. SEPARATOR .. id) == 1 then joins(subject) end
  end
end

local function unindex_subjects(id, facts)
  for _, subject in ipairs(subjects_in(facts)) do redis.pcall('ZREM', key('subjects'), subject .. SEPARATOR .. id) end
end

-- What is no longer tracked is nobody's: nothing finds it by its subject any more.
local function disown(id)
  local facts = facts_of(id)
  if not facts or not facts.subject then return end
  unindex_subjects(id, facts)
  facts.subject = nil
  if next(facts) then redis.call('HSET', key('facts'), id, cjson.encode(facts)) else redis.call('HDEL', key('facts'), id) end
end

-- At most so many ids of a subject, in order, after one of them or ''.
local function ids_of(subject, after, limit)
  local prefix = subject .. SEPARATOR
  local from = after == '' and '[' .. prefix or '(' .. prefix .. after
  local found = redis.call('ZRANGEBYLEX', key('subjects'), from, '(' .. subject .. '\32', 'LIMIT', 0, limit)
  for i, entry in ipairs(found) do found[i] = string.sub(entry, #prefix + 1) end
  return found
end

local function count_after(subject, after)
  local prefix = subject .. SEPARATOR
  local from = after == '' and '[' .. prefix or '(' .. prefix .. after
  return redis.call('ZLEXCOUNT', key('subjects'), from, '(' .. subject .. '\32')
end

-- The hold of one of these subjects as it is stored, and whose it is; nil if none is held now.
local function hold_among(subjects)
  if not any_subject_held() then return nil end
  for _, subject in ipairs(subjects) do
    local stored = redis.call('HGET', key('subject_holds'), subject)
    if stored and stored ~= ENDED then
      local till = cjson.decode(stored)['until']
      if not till or till > now then return stored, subject end
    end
  end
end

local function subject_hold(id)
  if not any_subject_held() then return nil end
  return hold_among(subjects_in(facts_of(id)))
end

-- True if an operator or application holds the id, or one whose data it is.
local function held(id) return redis.call('HEXISTS', key('holds'), id) == 1 or subject_hold(id) ~= nil end

-- Up to which number the copy of the holds is whole; -1 if there is none, or a part of it was lost.
local function subjects_known()
  local known = tonumber(redis.call('HGET', key('protected'), 'subjects') or nil)
  local marked = tonumber(redis.call('HGET', key('subject_holds'), SEPARATOR) or nil) or 0
  return known == marked and known or -1
end

local function set_subjects_known(number)
  local said = string.format('%.0f', number)
  if number > 0 then redis.call('HSET', key('subject_holds'), SEPARATOR, said) end -- 0: nobody was ever held
  redis.call('HSET', key('protected'), 'subjects', said)
end
