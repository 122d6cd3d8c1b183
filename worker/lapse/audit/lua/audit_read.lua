-- @include registry/lua/include/full
-- @include registry/lua/include/keys
-- Reads the oldest lines of a slot's audit stream as one text, each with its stream id as "seq".
-- ARGV[1]: the mover's token, [2]: its lease (ms), [3]: how many lines.
-- Returns {count, last id, lines, chain}; count is -1 while another mover holds the slot. chain: where the chain of what
-- was moved before stands ('' at its beginning).
-- The server joins the lines: parsing single entries cost the worker 14 us a line, and this 0.6 us.
-- Field e holds a whole JSON object: only its opening brace is replaced. An application's Redis user can add other things:
-- they stay one line, as text.

local mover = key('mover')
local holder = redis.call('GET', mover)
if holder and holder ~= ARGV[1] then return { -1, '', '', '' } end
-- What applications did goes first. Their user can add anything to that stream: but for these events it is text.
local events = { hold = true, unhold = true, forget = true, deleted_by_app = true, hold_subject = true, unhold_subject = true }

local function credible(e)
  local readable, said = pcall(cjson.decode, e)
  return readable and type(said) == 'table' and events[said.event]
end

local acts = redis.call('XRANGE', key('acts'), '-', '+', 'COUNT', ARGV[3])
for _, row in ipairs(acts) do
  local e = row[2][2]
  redis.call('XADD', key('audit'), '*', 'e', credible(e) and e or '{"garbled":' .. cjson.encode(e) .. '}')
  redis.call('XDEL', key('acts'), row[1])
end
local rows = redis.call('XRANGE', key('audit'), '-', '+', 'COUNT', ARGV[3])
if #rows == 0 then
  redis.call('DEL', mover)
  return { 0, '', '', '' }
end
redis.call('SET', mover, ARGV[1], 'PX', ARGV[2])
local lines = {}
for i, row in ipairs(rows) do
  local e = row[2][2]
  if string.byte(e) ~= 123 or string.byte(e, -1) ~= 125 or string.find(e, '\n', 1, true) then
    e = '{"garbled":' .. cjson.encode(e) .. '}'
  end
  lines[i] = '{"seq":"' .. row[1] .. '",' .. string.sub(e, 2) .. '\n'
end
return { #rows, rows[#rows][1], table.concat(lines), redis.call('GET', key('chain')) or '' }
