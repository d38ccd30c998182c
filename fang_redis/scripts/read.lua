-- Reads tasks: ids -> {now, {id, fields and values, errors} of each that is there}.
local out = {now}
for i = 1, #ARGV do
  local fields = call('HGETALL', row(ARGV[i]))
  if #fields > 0 then out[#out + 1] = {ARGV[i], fields, call('LRANGE', errors_of(ARGV[i]), 0, -1)} end
end
return out
