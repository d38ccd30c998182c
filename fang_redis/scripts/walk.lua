-- Reads tasks in the order of indexes, which are grouped: the indexes of a group merge, by score and then by id. '+' or
-- '-' for the greatest first; how many tasks; the score and the id behind which to begin in the first group, or ''
-- twice; the scores between which all groups are looked at: from the first, which belongs to it unless it is the
-- greater one, up to the second, which belongs to it unless it is the greater one; '' for no bound. Then for each group
-- the number of indexes, and those. Returns {now, then the group, id, score, fields and values of each task}.
local descends, most, score, id, from, to = ARGV[1] == '-', tonumber(ARGV[2]), unpack(ARGV, 3, 6)
local out, place, group = {now}, 7, 0
local score_number, to_number = tonumber(score), tonumber(to)

local function before(a, b)
  if a[1] ~= b[1] then if descends then return a[1] > b[1] end return a[1] < b[1] end
  if descends then return a[2] > b[2] end
  return a[2] < b[2]
end

local function range(key, first, number)
  if descends then return call('ZRANGE', key, first, first + number - 1, 'REV', 'WITHSCORES') end
  return call('ZRANGE', key, first, first + number - 1, 'WITHSCORES')
end

-- How many entries of an index come before the first one that is wanted. Those of one score, of which there may be
-- thousands, are halved until it is found.
local function start_of(key, begins)
  local start = 0
  if from ~= '' then
    start = descends and call('ZCOUNT', key, from, '+inf') or call('ZCOUNT', key, '-inf', '('..from)
  end
  if not begins then return start end
  local low, high
  if descends then low, high = call('ZCOUNT', key, '('..score, '+inf'), call('ZCOUNT', key, score, '+inf')
  else low, high = call('ZCOUNT', key, '-inf', '('..score), call('ZCOUNT', key, '-inf', score) end
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = range(key, middle, 1)
    if before({score_number, id}, {score_number, entry[1]}) then high = middle else low = middle + 1 end
  end
  return math.max(start, low)
end

local function look(keys, begins)
  local at, left = {}, most - (#out - 1) / 4
  for j, key in ipairs(keys) do at[j] = start_of(key, begins) end
  while left > 0 do
    local page = #keys == 1 and left or math.max(2, math.ceil(2 * left / #keys))
    local heads, horizon = {}, nil
    for j, key in ipairs(keys) do
      local r = range(key, at[j], page)
      for e = 1, #r, 2 do heads[#heads + 1] = {tonumber(r[e + 1]), r[e], j} end
      if #r == 2 * page and (not horizon or before(heads[#heads], horizon)) then horizon = heads[#heads] end
    end
    table.sort(heads, before)
    for _, head in ipairs(heads) do
      if left == 0 or (horizon and before(horizon, head)) then break end
      if to ~= '' and (descends and head[1] < to_number or not descends and head[1] >= to_number) then return end
      at[head[3]] = at[head[3]] + 1; left = left - 1
      local n = #out
      out[n + 1], out[n + 2], out[n + 3] = group, head[2], format('%.0f', head[1])
      out[n + 4] = hash_of(head[2])
    end
    if not horizon then return end
  end
end

while place <= #ARGV and (#out - 1) / 4 < most do
  local keys, number = {}, tonumber(ARGV[place])
  for i = place + 1, place + number do keys[#keys + 1] = P..ARGV[i] end
  look(keys, group == 0 and id ~= '')
  place = place + 1 + number; group = group + 1
end
return out
