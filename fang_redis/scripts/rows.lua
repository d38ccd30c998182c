-- Reads rows of history: names like 60:SECONDS -> the fields and values of each.
local out = {}
for i = 1, #ARGV do out[i] = call('HGETALL', P..'stats:'..ARGV[i]) end
return out
