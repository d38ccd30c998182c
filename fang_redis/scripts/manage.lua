-- Writes what holds for a task type, if it is as it was read: the type, its row that was read or '', then the fields
-- that it has now and their values; none if there is nothing left to say of it. Returns 1 if it was written. Claims
-- that are under way start nothing more, since the version is another one; pools look again.
local T, key = ARGV[1], P..'managed:'..ARGV[1]
if (call('HGET', key, 'row') or '') ~= ARGV[2] then return 0 end
expect('set', P..'managed')
if #ARGV == 2 then
  call('UNLINK', key, P..'tats:'..T); call('SREM', P..'managed', T)
else
  call('HDEL', key, 'limited', 'until', 'key_most', 'interval', 'burst', 'weights')
  call('HSET', key, 'version', add_to(P..'meta', 'changes', 1), unpack(ARGV, 3))
  call('SADD', P..'managed', T)
  if not call('HGET', key, 'interval') then call('UNLINK', P..'tats:'..T) end
end
say('l'..T); return 1
