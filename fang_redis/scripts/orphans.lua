-- Returns the pools that hold tasks, and have no record.
local out = {}
for _, pool in ipairs(call('SMEMBERS', P..'holders')) do
  if call('EXISTS', P..'held:'..pool) == 0 then call('SREM', P..'holders', pool)
  elseif call('HEXISTS', P..'beats', pool) == 0 then out[#out + 1] = pool end
end
return out
