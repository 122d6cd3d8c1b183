-- @include registry/lua/include/edges
-- What lets a script be run again after it ended in the middle: each step's debts, what it adds to hashes, are written down
-- with the step, and are paid together at the end, each hash by one command that also says that this run has paid it.

local run_name, memory_key, before, paid, debts, values = nil, nil, {}, {}, {}, {}
local audit_from

local function begin_once(name)
  run_name, memory_key = name, key('settling:' .. name)
  local flat = redis.call('HGETALL', memory_key)
  for i = 1, #flat, 2 do before[flat[i]] = flat[i + 1] end
end

local function step_of(one) return one.id .. '|' .. string.format('%.0f', one.token) end

-- What an earlier run of the same batch wrote down of this step, or nil.
local function begun(one)
  local stored = before[step_of(one)]
  return stored and cjson.decode(stored) or nil
end

-- owed: {hash: {field: n}}, set: {hash: {field: value}}; p: the policy under which the claim stood.
local function owing(policy) return { p = policy, owed = {}, set = {} } end

local function owe(own, hash, field, n)
  own.owed[hash] = own.owed[hash] or {}
  own.owed[hash][field] = (own.owed[hash][field] or 0) + n
end

local function owe_count(own, field, n) owe(own, key('counters'), field, n or 1) end

local function owe_value(own, hash, field, value)
  own.set[hash] = own.set[hash] or {}
  own.set[hash][field] = value
end

local function audit_line(event, id, policy, more)
  return string.format('{"at":%.0f,"event":"%s","provider":"%s","kind":"%s","id":"%s","policy":"%s"%s}',
    now, event, provider, kind, id, policy, more or '')
end

-- True if an earlier run appended this line: it is looked for behind where the stream ended then.
local function appended(line)
  for _, row in ipairs(redis.call('XRANGE', key('audit'), '(' .. (before['#'] or '0-0'), '+', 'COUNT', 5000)) do
    if row[2][2] == line then return true end
  end
  return false
end

-- Writes a step down, with its debts and its line of the audit, before it takes effect.
local function remember(one, own, line)
  local again = begun(one)
  own.line = again and again.line or line
  if not audit_from then
    local last = redis.call('XREVRANGE', key('audit'), '+', '-', 'COUNT', 1)[1]
    audit_from = before['#'] or last and last[1] or '0-0'
    if not before['#'] then
      redis.call('HSET', memory_key, '#', audit_from)
      redis.call('PEXPIRE', memory_key, 86400000)
    end
  end
  redis.call('HSET', memory_key, step_of(one), cjson.encode(own))
  if not (again and appended(own.line)) then redis.call('XADD', key('audit'), '*', 'e', own.line) end
end

local function collect(own)
  for hash, fields in pairs(own.owed) do
    debts[hash] = debts[hash] or {}
    for field, n in pairs(fields) do debts[hash][field] = (debts[hash][field] or 0) + n end
  end
  for hash, fields in pairs(own.set) do
    debts[hash], values[hash] = debts[hash] or {}, values[hash] or {}
    for field, value in pairs(fields) do values[hash][field] = value end
  end
end

local NEVER_BELOW_ZERO = { pace_used = true, ramp_used = true }

local function pay_one(hash)
  local fields, args = {}, {}
  for field in pairs(debts[hash]) do fields[#fields + 1] = field end
  local now_there = #fields > 0 and redis.call('HMGET', hash, unpack(fields)) or {}
  for i, field in ipairs(fields) do
    local sum = (tonumber(now_there[i]) or 0) + debts[hash][field]
    if NEVER_BELOW_ZERO[field] then sum = math.max(0, sum) end
    args[#args + 1], args[#args + 2] = field, string.format('%.0f', sum)
  end
  for field, value in pairs(values[hash] or {}) do args[#args + 1], args[#args + 2] = field, value end
  if #args == 0 then return end
  args[#args + 1], args[#args + 2] = 'paid|' .. run_name, '1'
  redis.call('HSET', hash, unpack(args))
end

local function pay()
  for hash in pairs(debts) do
    paid[#paid + 1] = hash
    if redis.call('HEXISTS', hash, 'paid|' .. run_name) == 0 then pay_one(hash) end
  end
end

-- The reply is kept by now: nothing of the run needs to be remembered any more.
local function end_once()
  for _, hash in ipairs(paid) do redis.call('HDEL', hash, 'paid|' .. run_name) end
  redis.call('DEL', memory_key)
end

-- Does that for a run that ended between keeping its reply and forgetting how it came to it.
local function forget_once()
  if not next(before) then return end
  paid[1] = key('counters')
  for step, stored in pairs(before) do
    if step ~= '#' then collect(cjson.decode(stored)) end
  end
  for hash in pairs(debts) do paid[#paid + 1] = hash end
  end_once()
end

-- True if edges of a source are, or were a moment ago, handed to whoever removes them.
local function uses_something(id)
  local facts = redis.call('HGET', key('facts'), id)
  if facts and cjson.decode(facts).uses then return 1 end
  return redis.call('HEXISTS', key('released'), id)
end

-- Moving a claimed id, so that it stands somewhere at every moment: its new place, its record, and then the old place.

local function leave(id, policy)
  redis.call('HDEL', key('aside'), id)
  redis.call('ZREM', part(policy, 'claims'), id)
end

local function move_back(id, policy, record)
  index(id, record)
  leave(id, policy)
end

local function move_aside(id, policy, record, state, score)
  set_aside(id, record, state, score)
  redis.call('ZREM', part(policy, 'claims'), id)
end

-- When and under which claim an id was deleted, in one score: seconds, and the claim's token without what repeats after millions.
local TOKENS = 1048576

local function deletion_score(token) return string.format('%.0f', math.floor(now / 1000) * TOKENS + token % TOKENS) end

local function token_of(score) return score % TOKENS end
