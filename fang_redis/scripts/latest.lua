-- Reads tasks in the order of their ids, the greatest first: how many, the id before which to begin, or ''. Returns
-- {now, then the id, fields and values of each task}.
local start, out = ARGV[2] == '' and '+' or '('..ARGV[2], {now}
for _, id in ipairs(call('ZRANGE', P..'ids', start, '-', 'BYLEX', 'REV', 'LIMIT', 0, ARGV[1])) do
  out[#out + 1] = id; out[#out + 1] = hash_of(id)
end
return out
