-- @include ledger/lua/include/lease
-- Answers that may be one id's own or all of its kind's: refusals, failures, confirmations that are none. Which it is
-- is seen by what other ids get: one that was answered likewise before and after another's DELETE was confirmed or
-- recognised absent has it for itself. Three ids and none such open the kind's breaker, and what they were charged is taken back.
-- Failures have to last a minute for that, or be 20, or 3 over 5 s; a plain error counts a fifth: it may be one id's own.
-- Field answers|IDENTITY of the marks: JSON {g: when a DELETE was last good, s: since when none was, n: how many ids, e: failures,
-- c: {id: the attempts it was charged, 'q' for quarantine}, o: 1 once the breaker is open}.

local ENOUGH, AGAIN = 3, 60000
local weight_of = { failure = 1, error = 0.2 }

local function answers(identity)
  local stored = redis.call('HGET', key('marks'), 'answers|' .. identity)
  return stored and cjson.decode(stored) or { g = 0, n = 0, c = {} }
end

local function store_answers(identity, state)
  redis.call('HSET', key('marks'), 'answers|' .. identity, cjson.encode(state))
end

-- A DELETE was good: what was doubtful before it ends here, and with it the breaker. Once a batch, and after doubts.
local vouched = false
local function vouch(identity, policy)
  if vouched then return end
  vouched = true
  store_answers(identity, { g = now, n = 0, c = {} })
  if redis.call('HDEL', key('marks'), 'shut', 'shut_until', 'shut_since', 'shut_detail') > 0 then
    audit('breaker_closed', '', policy)
  end
end

local function less(n, charged)
  if not n or charged == 'q' then return n end
  return n > charged and n - charged or nil
end

local function uncharge(id, charged)
  local record = aside(id)
  if not record or charged == 0 then return end
  if record.s == 'quarantined' and (charged == 'q' or record.r == 'attempts') then
    lift(id, record)
    record.r, record.m, record.n = 'doubted', nil, less(record.n, charged)
    set_aside(id, record, 'waiting', now + AGAIN)
    audit('requeued', id, record.p, ',"actor":"lapse","reason":"all of its kind are answered so"')
  elseif record.s == 'waiting' or record.s == 'claimed' or record.s == 'parked' then
    record.n = less(record.n, charged)
    amend(id, record)
  end
end

local function shut(policy, one)
  if redis.call('HSETNX', key('marks'), 'shut_since', now) == 1 then
    audit('breaker_opened', one.id, policy, ',"reason":"' .. one.outcome .. '","detail":' .. text(one.detail or ''))
  end
  redis.call('HSET', key('marks'), 'shut', one.outcome, 'shut_until', now + 10000, 'shut_detail', one.detail or '')
end

-- Takes back what the ids of a row were charged for it.
local function forgive(state, one, record)
  for id, charged in pairs(state.c) do
    if id == one.id then record.n = less(record.n, charged) else uncharge(id, charged) end
  end
  state.c, state.n, state.e = {}, 0, 0
end

-- Notes a doubtful answer to a claim; true if it is the id's own, and 'provisional' if it counts until others get it too.
-- While the whole provider fails, its own breaker is open, and nobody is charged.
local function doubted(identity, one, record)
  local state, before = answers(identity), record.w
  record.w, vouched = now, false
  if one.doubt == 'outage' then
    forgive(state, one, record)
    store_answers(identity, state)
    return false
  end
  if before and state.g > before then return true end
  if not state.o then
    local charge = one.act == 'quarantine' and 'q' or one.counted and one.outcome ~= 'forbidden' and 1 or 0
    if state.c[one.id] == nil then
      state.n = state.n + 1
      state.e = (state.e or 0) + (weight_of[one.doubt] or 0)
    end
    state.s = state.s or now
    local long = now - state.s
    local failing = state.e >= 20 or (state.e >= 3 and long >= 5000) or long >= 60000
    if state.n >= ENOUGH and (one.doubt == 'answer' or failing) then
      forgive(state, one, record)
      state.o = 1
    else
      local before_this = tonumber(state.c[one.id]) or 0
      state.c[one.id] = charge == 'q' and 'q' or before_this + charge
    end
  end
  store_answers(identity, state)
  if state.o then
    shut(record.p, one)
    return false
  end
  return one.outcome ~= 'forbidden' and 'provisional'
end
