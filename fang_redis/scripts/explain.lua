-- Reads what decides why a task is not running: its id, how far tasks before it are counted, how many of those that run
-- are named. Returns {now, what read.lua returns of it, {the fields and values of pools, live, runs, beats and
-- workers}, {the pools that are stopping}, {a pool that takes a lock, how many listen in its name...}}; and if it waits
-- {row of its type, how many of it run, and of its lane, when its rate is full again, when that of its lane is, how many
-- wait}, {id, kind, pool,
-- since, 1 if it is of the same lane} of those that run, how many come before it.
local id, most_ahead, most_holders = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local fields, hashes, listening = hash_of(id), {}, {}
local out = {now, {now}, hashes, call('SMEMBERS', P..'stopping'), listening}
if #fields > 0 then out[2][2] = {id, fields, entries_of(id)} end
for i, name in ipairs({'pools', 'live', 'runs', 'beats', 'workers'}) do hashes[i] = call('HGETALL', P..name) end
for i, pool in ipairs(call('SMEMBERS', P..'locks')) do
  listening[2 * i - 1] = pool; listening[2 * i] = call('PUBSUB', 'NUMSUB', P..'alive:'..pool)[2]
end
local v = look(id)
if not v or (v.s ~= 'new' and v.s ~= 'retried') then return out end

local T, lane = v.T, v.L or ''
local of_type, waits = call('HMGET', P..'managed:'..T, 'row', 'tat'), 0
local levels = levels_of(T)
for _, l in ipairs(levels) do waits = waits + call('ZCARD', line(T, l)) end
out[6] = {of_type[1] or '', tonumber(call('HGET', P..'busy', T)) or 0,
  tonumber(call('HGET', P..'running:'..T, lane)) or 0, of_type[2] or '',
  call('HGET', P..'tats:'..T, lane) or '', waits}

local running, looked = {}, 0
for _, pool in ipairs(call('SMEMBERS', P..'holders')) do
  for _, held in ipairs(call('SMEMBERS', P..'held:'..pool)) do
    looked = looked + 1
    if looked > 1000 then break end
    local r = fields_of(held, 'T', 'k', 'P', 'C', 'L')
    if r[1] == T then
      running[#running + 1] = {held, r[2], r[3] or '', r[4] or '', (r[5] or '') == lane and 1 or 0}
    end
  end
end
table.sort(running, function(a, b) if a[4] ~= b[4] then return a[4] < b[4] end return a[1] < b[1] end)
local named, of_lane = {}, 0
for i, each in ipairs(running) do
  if #named < most_holders or (each[5] == 1 and of_lane < most_holders) then
    named[#named + 1] = each; of_lane = of_lane + each[5]
  end
end
out[7] = named

-- How many of a line come before the task, which may be one of them; of those due at the same time, as far as is
-- counted.
local function before(key, is_same_priority)
  if not is_same_priority then return call('ZCOUNT', key, '-inf', now) end
  local rank = call('ZRANK', key, id)
  if rank then return rank end
  local number, place = call('ZCOUNT', key, '-inf', '('..v.d), 0
  for _, other in ipairs(call('ZRANGE', key, v.d, v.d, 'BYSCORE', 'LIMIT', 0, most_ahead)) do
    if other < id then number = number + 1 end
  end
  return number
end

local ahead = 0
if tonumber(v.d) <= now_us then
  local managed = is_managed(T)
  if managed and has_key(lane) then
    for p = -2, v.p do ahead = ahead + before(lane_line(T, p, lane), p == v.p) end
  else
    for _, l in ipairs(levels) do
      local p, sign = tonumber(l:sub(1, 1)) - 2, l:match('^%d[-rs]%d*([:=])')
      if p <= v.p and not (managed and sign == '=') then ahead = ahead + before(line(T, l), p == v.p) end
    end
  end
end
out[8] = math.min(ahead, most_ahead)
return out
