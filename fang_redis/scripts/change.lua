-- Changes or removes tasks, each one if it still is as it was read. For each task: id, the state, attempt and time of
-- change that were read; the number of fields to write, -1 to remove the task; the number of fields to delete; then the
-- fields with their values, and the names of the others. Returns {{tasks that have changed since}, {tasks that would
-- meet an equal one}}; all others are written.
local stale, twins, told = {}, {}, {}
local fields = {s = 's', T = 'T', k = 'k', d = 'd', g = 'g', L = 'L', h = 'h', w = 'w', P = 'P', u = 'u'}

local function after(old, first, set, deleted)
  local v = {}
  for name, value in pairs(old) do v[name] = value end
  for i = first, first + 2 * set - 2, 2 do
    local name, value = ARGV[i], ARGV[i + 1]
    if name == 'p' or name == 'c' or name == 'a' then v[name] = tonumber(value)
    elseif fields[name] then v[name] = value end
  end
  for i = first + 2 * set, first + 2 * set + deleted - 1 do
    local name = ARGV[i]
    if name == 'c' or name == 'a' then v[name] = 0 elseif fields[name] then v[name] = false end
  end
  return v
end

local function meets_twin(id, v)
  if terminal[v.s] then return false end
  local there = keeper('unique', v.h)
  if there and there ~= id then return true end
  there = v.a == 0 and keeper('unclaimed', v.w)
  return there and there ~= id
end

local i = 1
while i <= #ARGV do
  local id, old, set, deleted = ARGV[i], look(ARGV[i]), tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
  local first = i + 6
  if not old or old.s ~= ARGV[i + 1] or tostring(old.a) ~= ARGV[i + 2] or old.u ~= ARGV[i + 3] then
    stale[#stale + 1] = id
  elseif set < 0 then
    expect_indexes(old); expect_periods()
    leave(id, old); drop(id, old.E); forget(id)
  else
    local v = after(old, first, set, deleted)
    expect_indexes(old); expect_indexes(v)
    if meets_twin(id, v) then
      twins[#twins + 1] = id
    else
      local runs_on = old.s == 'in_progress' and v.s == old.s
      -- Either way the first write is one that is let through when the memory is full.
      if runs_on then told[v.P] = true; admit() else leave(id, old) end
      if deleted > 0 then call('HDEL', row(id), unpack(ARGV, first + 2 * set, first + 2 * set + deleted - 1)) end
      call('HSET', row(id), unpack(ARGV, first, first + 2 * set - 1))
      if not runs_on then enter(id, v) end
    end
  end
  i = first + 2 * math.max(set, 0) + deleted
end
settle()
for pool in pairs(told) do say('t'..pool) end
return {stale, twins}
