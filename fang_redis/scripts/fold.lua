-- Writes rows of history in place of those that are there: 60 or 3600, the seconds, how many rows were read there or ''
-- for whatever is there; then fields and JSON. Returns 1 if it was written.
local key = P..'stats:'..ARGV[1]..':'..ARGV[2]
if ARGV[3] ~= '' and call('HLEN', key) ~= tonumber(ARGV[3]) then return 0 end
expect('zset', P..'stats:'..ARGV[1]); expect('zset', P..'stats:open')
call('ZREM', P..'stats:open', ARGV[1] == '60' and ARGV[2] or '')
call('UNLINK', key)
if #ARGV > 3 then call('HSET', key, unpack(ARGV, 4)); call('ZADD', P..'stats:'..ARGV[1], ARGV[2], ARGV[2]) end
return 1
