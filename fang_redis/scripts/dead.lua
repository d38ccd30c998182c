-- Reads what a pool held: pool -> {now, its counter, record, number of workers, 1 if it stopped, then for each task as
-- read.lua has it}; '' for what is not there.
local pool = ARGV[1]
local out = {now, call('HGET', P..'beats', pool) or '', call('HGET', P..'pools', pool) or '',
  call('HGET', P..'workers', pool) or '', call('SISMEMBER', P..'stopping', pool)}
for _, id in ipairs(call('SMEMBERS', P..'held:'..pool)) do
  local fields = hash_of(id)
  if #fields > 0 then out[#out + 1] = {id, fields, entries_of(id)} end
end
return out
