-- @include registry/lua/include/full
-- @include ledger/lua/include/principals
-- Whose answers count in a slot, and what was found out about one credential. ARGV[3]: its identity,
-- [4]: '' to ask, accepted, refused, or partial (refused, and sees some of the ids), [5]: why (text), [6]: how long one is in use after it was seen last (ms).
-- Returns {state, since, why, judged, others in use that see ids (JSON list)}. state: accepted; refused or partial, and when; new: it is not the first, and
-- nobody has found out yet whether it sees what the others see. The first of a slot is believed: what it registered is what there is.

local identity, verdict = ARGV[3], ARGV[4]
local stored = principals()
local own = stored[identity]

if not own then
  own = { since = now, at = now, state = next(stored) and 'new' or 'accepted' }
  store_principal(identity, own)
elseif verdict ~= '' then
  own.state, own.why, own.judged, own.at = verdict, verdict ~= 'accepted' and ARGV[5] or nil, now, now
  store_principal(identity, own)
  if verdict == 'accepted' then end_refusal(stored) end
elseif now - own.at > 30000 then
  own.at = now
  store_principal(identity, own)
end

local others = {}
for other, one in pairs(stored) do
  local sees = one.state == 'accepted' or one.state == 'partial'
  if other ~= identity and sees and now - one.at <= tonumber(ARGV[6]) then others[#others + 1] = other end
end
return { own.state, own.since, own.why or '', own.judged or 0, #others > 0 and cjson.encode(others) or '[]' }
