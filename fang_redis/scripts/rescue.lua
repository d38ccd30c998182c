-- Takes back what a dead pool held, and removes its record, if its counter still is as it was seen: pool, its counter, ''
-- if it has no record; then what write.lua takes. Returns {'alive'}, or what write.lua returns.
local dead, seen = table.remove(ARGV, 1), table.remove(ARGV, 1)
if (call('HGET', P..'beats', dead) or '') ~= seen then return {'alive'} end
local function write()
-- include write
end
expect_pool(dead)
local written = write()
if written[1] ~= 'written' then return written end
for _, id in ipairs(call('SMEMBERS', P..'held:'..dead)) do
  local v = fields_of(id, 'P', 's')
  if v[1] == dead and v[2] == 'in_progress' then return {'stale', id} end  -- claimed since it was read
end
call('DEL', P..'held:'..dead); call('SREM', P..'holders', dead); forget_pool(dead); return written
