-- Reads the periods of tasks: ids -> {id, the hash, 'ID INSERTED UNTIL'} of each that has one.
local out = {}
for i = 1, #ARGV do
  local hash = call('HGET', P..'period_of', ARGV[i])
  local period = hash and call('HGET', P..'periods', hash)
  if period and period:match('^%S+') == ARGV[i] then out[#out + 1] = {ARGV[i], hash, period} end
end
return out
