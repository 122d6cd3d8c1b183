-- @include registry/lua/include/record
-- @include registry/lua/include/subjects
-- What became of the ids that a request to erase a subject found, id -> JSON {o, at, p: policy, status, request (the
-- provider's id of the answer), why}: "erased:<request>" as workers and operators know it (o: erased | already_gone | dropped),
-- "withdrawn:<request>" as applications said it (forgotten | deleted): their Redis user may write there alone. What is tracked
-- still has no outcome, whatever stands there of an earlier life.

local function requests_of(subject)
  local stored = redis.call('HGET', key('subject_holds'), ERASURE .. subject)
  return stored and cjson.decode(stored) or {}
end

-- Every request that the slot knows of.
local function all_requests()
  local found = {}
  for _, field in ipairs(any_subject_held() and redis.call('HKEYS', key('subject_holds')) or {}) do
    local named = string.sub(field, 1, 1) == ERASURE and requests_of(string.sub(field, 2)) or {}
    for _, request in ipairs(named) do found[#found + 1] = request.id end
  end
  return found
end

if #KEYS > 1 then
  local refused = again('requests', all_requests(), function(id) return key('withdrawn:' .. id) end)
  if refused then return refused end
end

-- Whose an id is: what its facts name, or of a child that goes with a subject's, that one's.
local function owners(id, record)
  local subjects = subjects_in(facts_of(id))
  if #subjects == 0 and record and record.j then return { record.j } end
  return subjects
end

-- Writes down what became of an id, for each request that it belongs to; true if there is any. Says nothing of what is
-- only seen by a purge. A Redis user from before these keys may not write there, and forgets all the same.
local function credit(id, record, outcome, withdrawn)
  if not any_subject_held() or (record and record.q and not record.j) then return false end
  local created, found = record and creation_kept(creation(record), facts_of(id)) or 0, false
  outcome.at, outcome.p = outcome.at or now, outcome.p or record and record.p
  for _, subject in ipairs(owners(id, record)) do
    for _, request in ipairs(requests_of(subject)) do
      if created < request['until'] then
        redis.pcall('HSET', key((withdrawn and 'withdrawn:' or 'erased:') .. request.id), id, cjson.encode(outcome))
        found = true
      end
    end
  end
  return found
end

-- What an application says of an id that it forgets, or had deleted.
local function withdraw(id, record, outcome) return credit(id, record, outcome, true) end

-- Calls what(subject, name of the hash, request) for each outcome of an id whose facts are gone.
local function each_outcome(id, what)
  if not any_subject_held() then return end
  for _, field in ipairs(redis.call('HKEYS', key('subject_holds'))) do
    local subject = string.sub(field, 1, 1) == ERASURE and string.sub(field, 2)
    for _, request in ipairs(subject and requests_of(subject) or {}) do
      for _, place in ipairs({ 'erased:', 'withdrawn:' }) do
        local name = key(place .. request.id)
        if redis.call('HEXISTS', name, id) == 1 then what(subject, name, request.id) end
      end
    end
  end
end

-- The provider confirmed after all that an id is deleted of which something else was written down.
local function correct(id, outcome)
  outcome.at = now
  each_outcome(id, function(_, name, request)
    local before = cjson.decode(redis.call('HGET', name, id))
    outcome.p = before.p
    redis.call('HSET', key('erased:' .. request), id, cjson.encode(outcome))
  end)
end

-- An id is tracked again: it is its subject's again, and has to be erased.
local function reclaim(id)
  local subjects, seen, outcomes = {}, {}, {}
  each_outcome(id, function(subject, name)
    if not seen[subject] then subjects[#subjects + 1] = subject end
    seen[subject] = true
    outcomes[#outcomes + 1] = name
  end)
  local facts = facts_of(id) or {}
  if #subjects > 0 and not facts.subject then
    facts.subject = subjects[2] and subjects or subjects[1]
    index_subjects(id, facts)
    redis.call('HSET', key('facts'), id, cjson.encode(facts))
  end
  for _, subject in ipairs(subjects_in(facts)) do joins(subject) end
  for _, name in ipairs(outcomes) do redis.call('HDEL', name, id) end -- last: sent again, it is known by these whose it was
end
