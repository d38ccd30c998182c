-- Reads when tasks are due, of 200 levels at a time: 1 if the records of pools are wanted, the place at which to
-- go on among the levels of the first type, 0 at its beginning, then the task types -> {now, these records, how many of
-- the types were read to their end, the place at which to go on in the next one; then of each level its type, the level,
-- the time of its first task, and of the first that is not due, '' if there is none}.
local most, place = 200, ARGV[2]
local out = {now, ARGV[1] == '1' and call('HVALS', P..'pools') or {}, 0, '0'}
local function time(rows) return rows[2] or '' end
local looked = 0
for i = 3, #ARGV do
  local T = ARGV[i]
  repeat
    if looked >= most then out[4] = place; return out end
    local page = call('ZSCAN', P..'levels:'..T, place, 'COUNT', 100)
    place, looked = page[1], looked + 1 + #page[2] / 2
    local members = {}
    for j = 1, #page[2], 2 do members[#members + 1] = page[2][j] end
    for _, l in ipairs(levels_in(members)) do
      local key = line(T, l)
      out[#out + 1] = T; out[#out + 1] = l
      out[#out + 1] = time(call('ZRANGE', key, 0, 0, 'WITHSCORES'))
      out[#out + 1] = time(call('ZRANGE', key, '('..now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES'))
    end
  until place == '0'
  out[3] = out[3] + 1
end
return out
