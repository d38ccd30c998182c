-- Notes that a pool waits to be woken, or no longer does: pool, 1 or 0. Does nothing if it has no record.
local record = call('HGET', P..'pools', ARGV[1])
if not record then return 0 end
admit()
for _, T in ipairs(types_of(record)) do
  call(ARGV[2] == '1' and 'SADD' or 'SREM', P..'waiting:'..T, ARGV[1])
end
return 1
