-- Writes rows of history over those that the same writer has written: the minute in seconds, the oldest one that may be
-- written in microseconds from now; then the field and the JSON of each row. Returns {now, 1 if they were written}.
local minute = tonumber(ARGV[1])
if minute * 1e6 < now_us - ARGV[2] then return {now, 0} end
if #ARGV > 2 then
  expect('zset', P..'stats:60'); expect('zset', P..'stats:open')
  call('HSET', P..'stats:60:'..ARGV[1], unpack(ARGV, 3))
  call('ZADD', P..'stats:60', minute, ARGV[1]); call('ZADD', P..'stats:open', minute, ARGV[1])
end
return {now, 1}
