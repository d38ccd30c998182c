-- Reads what a claim from a managed type is decided by. Pool, type, limit, the lane to begin behind, how many lanes to
-- look at in each priority, size of groups of suspects, the quantum of a turn, 1 for any kind, 1 to begin behind the
-- lane that was fetched from last, the number of isolated kinds; then the isolated kinds, the known kinds. Returns
-- {now, 1 if the pool is registered, {version, row, when its rate is full again, the lane that was fetched from last, 1
-- if plain claims leave the type alone},
-- how many tasks of the type run; then for each priority {priority, '=' and the last lane that was looked at if there may
-- be more, else '', {lane with due tasks, when its rate is full again, its first tasks, how many of its tasks run, if
-- that is limited} of each}}.
local pool, T, limit, after, most_lanes = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local group_size, quantum, any = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
local isolated, kinds = {}, {}
for i = 11, 10 + ARGV[10] do isolated[ARGV[i]] = true end
for i = 11 + ARGV[10], #ARGV do kinds[ARGV[i]] = true end
local registered = call('HEXISTS', P..'beats', pool)
local of_type = call('HMGET', P..'managed:'..T,
  'version', 'row', 'tat', 'fetched_last', 'until', 'key_most', 'interval', 'burst', 'weights')
local type_tat = whole(of_type[3], FIRST_TIME, LAST_TIME) and of_type[3] or ''
local out = {now, registered, {of_type[1] or '', of_type[2] or '', type_tat, of_type[4] or '',
  is_managed(T) and 1 or 0}, 0}
local till = of_type[5]
if ARGV[9] == '1' then after = of_type[4] or '' end
if registered == 0 or not is_managed(T) or till and (till == 'inf' or (tonumber(till) or 0) > now_us) then return out end

local key_most = of_type[6] and tonumber(of_type[6]) or 1e9
local interval, burst = tonumber(of_type[7] or 0) or 0, tonumber(of_type[8] or 0) or 0
local is_read, weights = pcall(cjson.decode, of_type[9] or '{}')
if not is_read or type(weights) ~= 'table' then weights = {} end
out[4] = tonumber(call('HGET', P..'busy', T)) or 0

local function is_tried(mark, group, k)
  local most = math.max(1, tonumber(group) or 32767)
  return (any or kinds[k]) and (mark ~= 's' or (isolated[k] and most > 1) or most >= group_size)
end

-- The lines of a priority whose tasks have no lane of their own.
local without_lane = {}
for _, l in ipairs(any and levels_of(T) or levels_of_kinds(T, kinds)) do
  local p, mark, group, sign, k = l:match('^(%d)([-rs])(%d*)([:=])(.*)$')
  if sign == ':' and is_tried(mark, group, k) then
    p = p - 2; without_lane[p] = without_lane[p] or {}
    table.insert(without_lane[p], line(T, l))
  end
end

local function first_without_lane(p, most)
  local heads, ids = {}, {}
  for _, key in ipairs(without_lane[p] or {}) do
    local r = call('ZRANGE', key, '-inf', now, 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
    for e = 1, #r, 2 do heads[#heads + 1] = {tonumber(r[e + 1]), r[e]} end
  end
  table.sort(heads, function(a, b) if a[1] ~= b[1] then return a[1] < b[1] end return a[2] < b[2] end)
  for i = 1, math.min(most, #heads) do ids[i] = heads[i][2] end
  return ids
end

-- The first tasks of a lane that the pool may run. Of those that it may not run it passes over a page at most.
local function first_of(p, lane, most)
  if lane == '' then return first_without_lane(p, most) end
  local ids = {}
  for _, id in ipairs(call('ZRANGE', lane_line(T, p, lane), '-inf', now, 'BYSCORE', 'LIMIT', 0, most + 100)) do
    local v = fields_of(id, 'k', 'c', 'g')
    if v[1] and is_tried(whole(v[2], 0, 32767, 0) >= 2 and 's' or '-', v[3] or '', v[1]) then ids[#ids + 1] = id end
    if #ids == most then break end
  end
  return ids
end

-- How many tasks of a lane may start now, when its rate is full again, and how many run.
local function starts(lane)
  local runs = key_most < 1e9 and tonumber(call('HGET', P..'running:'..T, lane)) or 0
  local free, tat = math.min(limit, key_most - runs), ''
  if interval > 0 then
    tat = call('HGET', P..'tats:'..T, lane)
    tat = whole(tat, FIRST_TIME, LAST_TIME) and tat or ''
    local full = math.max(tonumber(tat) or 0, now_us)
    if full > now_us + burst * interval then full = now_us + (burst - 1) * interval end
    free = math.min(free, burst - math.ceil((full - now_us) / interval))
  end
  return free, tat, runs
end

-- Calls a function with the lanes of a priority in turn, until it returns true.
local function in_turn(p, look)
  local key, pages = lanes_of(T, p), {{'('..after, '+'}, {'-', '['..after}}
  for i, bounds in ipairs(pages) do
    if i == 2 and without_lane[p] and look('') then return end
    local from = bounds[1]
    repeat
      local lanes = call('ZRANGE', key, from, bounds[2], 'BYLEX', 'LIMIT', 0, 100)
      for _, lane in ipairs(lanes) do if look(lane) then return end end
      if #lanes > 0 then from = '('..lanes[#lanes] end
    until #lanes < 100
  end
end

for p = -2, 2 do
  local found, wanted, shares, looked, last, stopped = {}, 0, 0, 0, '', false
  in_turn(p, function(lane)
    if looked == most_lanes or wanted >= limit then stopped = true; return true end
    looked, last = looked + 1, lane
    local ids = first_of(p, lane, 1)
    if #ids == 0 then return false end
    local free, tat, runs = starts(lane)
    local each = {lane = lane, free = free, tat = tat, runs = runs, ids = ids, weight = tonumber(weights[lane]) or 1}
    found[#found + 1] = each
    if free > 0 then wanted = wanted + math.min(free, quantum * each.weight); shares = shares + each.weight end
  end)
  local of_priority = {p, stopped and '='..last or ''}
  for _, each in ipairs(found) do
    if each.free > 0 then  -- as many as its turn may have, and one more
      local turn = math.max(quantum * each.weight, math.ceil(limit * each.weight / shares))
      each.ids = first_of(p, each.lane, math.min(each.free, turn) + 1)
    end
    of_priority[#of_priority + 1] = {each.lane, each.tat, each.ids, each.runs}
  end
  if #of_priority > 2 or stopped then out[#out + 1] = of_priority end
end
return out
