-- Reads when tasks are due: 1 if the records of pools are wanted, then the task types, all if none is given -> {now, these
-- records, then of each level its type, the level, the time of its first task, and of the first that is not due, '' if
-- there is none}.
local out = {now, table.remove(ARGV, 1) == '1' and call('HVALS', P..'pools') or {}}
local function time(rows) return rows[2] or '' end
for _, T in ipairs(#ARGV > 0 and ARGV or call('SMEMBERS', P..'types')) do
  for _, l in ipairs(call('SMEMBERS', P..'levels:'..T)) do
    local key = line(T, l)
    out[#out + 1] = T; out[#out + 1] = l
    out[#out + 1] = time(call('ZRANGE', key, 0, 0, 'WITHSCORES'))
    out[#out + 1] = time(call('ZRANGE', key, '('..now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES'))
  end
end
return out
