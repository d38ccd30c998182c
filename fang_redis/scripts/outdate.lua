-- Removes history: 60 or 3600, the seconds from which on it is kept, how many minutes or hours at most. Returns how
-- many.
local gone = call('ZRANGE', P..'stats:'..ARGV[1], '-inf', '('..ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[3])
expect('zset', P..'stats:open')
for _, at in ipairs(gone) do
  call('ZREM', P..'stats:'..ARGV[1], at)
  if ARGV[1] == '60' then call('ZREM', P..'stats:open', at) end
  call('UNLINK', P..'stats:'..ARGV[1]..':'..at)
end
return #gone
