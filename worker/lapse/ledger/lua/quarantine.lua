-- @include registry/lua/include/full
-- @include registry/lua/include/edges
-- @include registry/lua/include/erasures
-- @include registry/lua/include/protection
-- An operator's answer to quarantine. ARGV[3]: retry | undo | drop, [4]: actor (JSON string), [5]: reason (JSON string), [6...]: ids.
-- retry: tried again at once, attempts forgotten; what the application forgot meanwhile is dropped. drop: no longer tracked, edges removed, foreign until registered again.
-- undo: what was settled already_gone is tracked again: touched since, with that time; held, parked; forgotten since stays
-- out, and registered anew is left as it is.
-- Returns the ids it changed; for undo "what|id" of every id that was settled so: tracked, touched,
-- held, forgotten, registered.

local verb, changed = ARGV[3], {}
local event_of = { undo = 'undone', retry = 'requeued', drop = 'dropped' }
local actor = ',"actor":' .. ARGV[4] .. ',"reason":' .. ARGV[5]
for i = 6, #ARGV do
  local id = ARGV[i]
  local record, did = nil, event_of[verb]
  if verb == 'undo' then
    local grave = redis.call('HGET', key('graves'), id)
    local what
    local buried = grave and cjson.decode(grave)
    if buried and (buried.g or redis.call('ZSCORE', key('forgotten'), id)) then
      what = 'forgotten'
    elseif not grave and locate(id) then
      what = 'registered'
    elseif buried then -- and it may be back already, by a call that ended in the middle
      record = buried
      what = record.h and 'touched' or 'tracked'
      record.u, record.n, record.x, record.y, record.v, record.b, record.h = nil, nil, nil, nil, nil, nil, nil
      reclaim(id)
      -- Nothing may have stood under its name since, which housekeeping ended then: it would be found by nobody.
      if not record.q then redis.call('SADD', key('policies'), record.p) end
      if held(id) then
        what, record.r = 'held', 'held'
        set_aside(id, record, 'parked', now)
      elseif creation(record) then
        index(id, record)
      end
      audit('undone', id, record.p, actor)
      redis.call('HDEL', key('graves'), id) -- last: the id stands somewhere at every call
      redis.call('ZREM', key('tombstones'), id)
    end
    if what then changed[#changed + 1] = what .. '|' .. id end
  else
    record = aside(id)
    if record and record.s == 'quarantined' then
      if verb == 'retry' and not record.g then lift(id, record) else take(id, record) end
      record.n, record.x, record.y, record.r, record.m = nil, nil, nil, nil, nil
      if verb == 'retry' and not record.g then
        set_aside(id, record, 'waiting', now)
      else
        did = 'dropped'
        redis.call('ZADD', key('forgotten'), now, id)
        protect('forgotten')
        credit(id, record, { o = 'dropped' })
        untrack(id, record)
      end
    else
      record = nil
    end
  end
  if record and verb ~= 'undo' then
    if did == event_of[verb] then changed[#changed + 1] = id end
    audit(did, id, record.p, actor)
  end
end
return changed
