-- Reads which indexes there are: ARGV has task types, none for all -> {now, {type, levels...} of each with waiting
-- tasks, {types with tasks that have ended}, {pools that hold tasks}}.
local function types_in(name) return #ARGV > 0 and ARGV or call('SMEMBERS', P..name) end
local out = {now, {}, types_in('ended'), call('SMEMBERS', P..'holders')}
for _, T in ipairs(types_in('types')) do
  local levels = levels_of(T)
  if #levels > 0 then table.insert(levels, 1, T); table.insert(out[2], levels) end
end
return out
