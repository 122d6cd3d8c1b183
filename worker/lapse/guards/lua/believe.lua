-- @include registry/lua/include/full
-- @include registry/lua/include/record
-- An operator says that what was not found, and waits for a proof, is gone: each settles at its next not-found under the
-- identity that it was not found under. Nothing else is believed by this. ARGV[3]: policy, [4]: identity, or '' to count alone,
-- [5]: after which id of a page, a rank, [6]: at most.
-- Returns {how many of this page, how many were looked at}.
-- @policy ARGV[3]

local policy, identity, from, limit = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local ids = redis.call('ZRANGE', part(policy, 'waiting'), from, from + limit - 1)
local found = 0
for _, id in ipairs(ids) do
  local record = aside(id)
  local missed = false
  for _, one in ipairs(record and record.v or {}) do missed = missed or identity == '' or one == identity end
  if missed and record.r == 'unproven' then
    found = found + 1
    if identity ~= '' then
      record.b = identity
      amend(id, record)
    end
  end
end
return { found, #ids }
