-- Reads tasks: ids -> {now, {id, fields and values, errors} of each that is there}.
local out = {now}
for i = 1, #ARGV do
  local fields = hash_of(ARGV[i])
  if #fields > 0 then out[#out + 1] = {ARGV[i], fields, entries_of(ARGV[i])} end
end
return out
