-- Reads tasks in progress, those first that are held for longest: how many, the time and the id behind which to begin,
-- or '' twice; then pools. Returns {now, then the id, time, fields and values of each task}.
local most, time, id = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local found, out = {}, {now}
for i = 4, #ARGV do
  for _, held in ipairs(call('SMEMBERS', P..'held:'..ARGV[i])) do
    local v = fields_of(held, 'C', 'u')
    local since = whole(v[1], 0, LAST_TIME, whole(v[2], 0, LAST_TIME, 0))
    if not time or since > time or (since == time and held > id) then found[#found + 1] = {since, held} end
  end
end
table.sort(found, function(a, b) if a[1] ~= b[1] then return a[1] < b[1] end return a[2] < b[2] end)
for i = 1, math.min(most, #found) do
  local n = #out
  out[n + 1], out[n + 2], out[n + 3] = found[i][2], format('%.0f', found[i][1]), hash_of(found[i][2])
end
return out
