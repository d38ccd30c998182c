-- Notes what a pool does now: its id, and that as JSON, behind the time. Does nothing if there is no such pool.
if call('HEXISTS', P..'pools', ARGV[1]) == 0 then return 0 end
admit(); call('HSET', P..'live', ARGV[1], now..' '..ARGV[2]); return 1
