-- Makes a pool known: pool, its record, its lease in seconds. Repeating it is harmless.
for _, name in ipairs({'pools', 'started', 'leases', 'beats'}) do expect('hash', P..name) end
admit()
if call('HSETNX', P..'pools', ARGV[1], ARGV[2]) == 1 then
  call('HSET', P..'started', ARGV[1], now); call('HSET', P..'leases', ARGV[1], ARGV[3])
  call('HSETNX', P..'beats', ARGV[1], 0)
end
return 1
