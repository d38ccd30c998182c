-- Adds an entry to the audit, as JSON without its id and its time; ARGV[2] is how many are kept. Or, with a third
-- value, writes ARGV[1], JSON of what came of it, into the entry of that id. Returns the id; 0 if there is no such
-- entry without one.
local key, last = P..'audit', tonumber(call('HGET', P..'meta', 'audit')) or 0
expect('list', key)
if #ARGV == 2 then
  local id = add_to(P..'meta', 'audit', 1)
  call('RPUSH', key, id..' '..now..' '..ARGV[1]); call('LTRIM', key, -ARGV[2], -1)
  return id
end
local id = tonumber(ARGV[3])
local place = id - last - 1  -- the entries have no gaps
local text = place < 0 and call('LINDEX', key, place)
if not text or text:find('\n', 1, true) then return 0 end
call('LSET', key, place, text..'\n'..ARGV[1]); return id
