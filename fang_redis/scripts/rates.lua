-- Forgets the rates of lanes that are full again: the type, the place in them from which to look. Returns the next
-- place, '0' at the end.
local found = call('HSCAN', P..'tats:'..ARGV[1], ARGV[2], 'COUNT', 500)
for i = 1, #found[2], 2 do
  if (tonumber(found[2][i + 1]) or 0) <= now_us then call('HDEL', P..'tats:'..ARGV[1], found[2][i]) end
end
return found[1]
