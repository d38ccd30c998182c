-- Reads what holds for task types, all that are managed unless some are named, and the records of all pools if ARGV[1]
-- is 1 -> {now, {the record of each pool}, {type, row, how many of its tasks are in progress, how many wait} of each}.
local types = {unpack(ARGV, 2)}
local pools = ARGV[1] == '1' and call('HVALS', P..'pools') or {}
if #types == 0 then types = call('SMEMBERS', P..'managed') end
local out = {now, pools}
for _, T in ipairs(types) do
  local runs, waits = tonumber(call('HGET', P..'busy', T)) or 0, 0
  for _, l in ipairs(levels_of(T)) do waits = waits + call('ZCARD', line(T, l)) end
  out[#out + 1] = {T, call('HGET', P..'managed:'..T, 'row') or '', runs, waits}
end
return out
