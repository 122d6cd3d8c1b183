-- @include registry/lua/include/slot
-- The keys of a slot that protect ids: holds, edges, forgotten. Each counts what was ever put into it twice: in a marker
-- that stands in the key itself and never goes, and in the hash "protected". While the two agree, the key is whole. One that was
-- deleted, evicted or put back from an older copy has another number or none: nobody knows any more what it protected.
-- Only additions count. A client or worker of an older version counts nothing, and what it adds or takes away in its
-- right changes neither number: the markers are no id, and no script ever removes them.

local MARKERS = { holds = '.', edges = '~', forgotten = '.' } -- '~' sorts behind every edge, as its score does
local LAST = 9000000000000000 -- a marker's score less its number: later than any time, so that what ends by its age never ends it
local PROTECTING = { 'holds', 'edges', 'forgotten' }

local function marked(name)
  local stored
  if name == 'holds' then
    stored = redis.call('HGET', key('holds'), MARKERS.holds)
    return stored and cjson.decode(stored).n or nil
  end
  stored = redis.call('ZSCORE', key(name), MARKERS[name])
  return stored and tonumber(stored) - LAST or nil
end

local function stored_count(name)
  local stored = redis.call('HGET', key('protected'), name)
  return stored and tonumber(stored) or nil
end

local function set_counts(name, n)
  redis.call('HSET', key('protected'), name, n)
  if name == 'holds' then
    local marker = { n = n, since = now, actor = 'lapse', reason = 'counts what was ever held here; it is no hold' }
    redis.call('HSET', key('holds'), MARKERS.holds, cjson.encode(marker))
  else
    redis.call('ZADD', key(name), string.format('%.0f', LAST + n), MARKERS[name])
  end
end

-- Counts what was just put into a key. One that is damaged stays so until an operator answers.
local function protect(name)
  local there, known = marked(name), stored_count(name)
  if there == known then set_counts(name, (known or 0) + 1) end
end

-- The names of keys that lost what they protected; those of a registry that never counted are whole.
local function damaged()
  local found = {}
  local counts = redis.call('HMGET', key('protected'), unpack(PROTECTING))
  for i, name in ipairs(PROTECTING) do
    if (counts[i] and tonumber(counts[i]) or nil) ~= marked(name) then found[#found + 1] = name end
  end
  return found
end
