-- @include registry/lua/include/full
-- @include ledger/lua/include/halting
-- Sets a halt that a guard of a worker asks for.
-- ARGV[3]: policy, or '*' for the whole kind, [4]: reason, [5]: detail, [6]: the policy it is counted under, [7]: the plan that answers it, or ''.
-- Returns 1, or 0 if it stood already.

return halt(ARGV[3], ARGV[4], ARGV[5], ARGV[6], nil, ARGV[7] ~= '' and ARGV[7] or nil) and 1 or 0
