-- @include registry/lua/include/full
-- @include ledger/lua/include/child
-- How children stand before anything of their parent is touched. Leases and holds that ran out end here.
-- ARGV[3]: JSON [{ids, going, named, since, active}], each as child.lua has it, [4]: rules as claim_child.lua's [7],
-- [5]: the epoch that rules were adopted under, [6], [7]: between which Redis TIME has to be; '' each: not checked.
-- Returns JSON, in the order of the ids, a status each, or a list: [free, policy], where nothing is in the way, and
-- [used, at most 100 of its users...]; unknown: not registered, but named by a use, so its stamp has to say more.

local rules, found = cjson.decode(ARGV[4]), {}

local function users(id, going)
  local named, others = {}, { 'used' }
  for _, source in ipairs(going) do named[source] = true end
  any_source(id, function(source)
    if not named[source] then others[#others + 1] = source end
    return #others > 100
  end)
  return others
end

end_holds()
for _, group in ipairs(cjson.decode(ARGV[3])) do
  group.rules, group.stamped, group.epoch, group.earliest, group.latest = rules, '', ARGV[5], ARGV[6], ARGV[7]
  for _, id in ipairs(group.ids) do
    local status, record = standing(id, group)
    if status == 'used' then
      status = users(id, group.going)
    elseif status == 'foreign' and not record and named_by(id, group.going) and not redis.call('ZSCORE', key('forgotten'), id) then
      status = 'unknown'
    end
    found[#found + 1] = status or { 'free', record.p }
  end
end
return cjson.encode(found)
