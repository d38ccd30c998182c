-- Reads how task types stand -> {now, {pool, JSON...}, {pools that are stopping}, {pool, number of its workers...},
-- {pool, when it told last what it does...}; {type, how many are due, when the first of those was or '', how many run, 1
-- if it is paused} of each type with waiting tasks, pools, or something that holds}.
local pools, types = call('HGETALL', P..'pools'), {}
local function add(names) for _, T in ipairs(names) do types[T] = true end end
add(call('SMEMBERS', P..'types')); add(call('SMEMBERS', P..'managed'))
for i = 2, #pools, 2 do add(types_of(pools[i])) end
local told = call('HGETALL', P..'live')
for i = 2, #told, 2 do told[i] = told[i]:match('^%d+') or '' end
local out = {now, pools, call('SMEMBERS', P..'stopping'), call('HGETALL', P..'workers'), told}
for T in pairs(types) do
  local due, first = 0, nil
  for _, l in ipairs(levels_of(T)) do
    local head = call('ZRANGE', line(T, l), 0, 0, 'WITHSCORES')[2]
    if head and tonumber(head) <= now_us then
      due = due + call('ZCOUNT', line(T, l), '-inf', now)
      first = math.min(first or math.huge, tonumber(head))
    end
  end
  local runs = tonumber(call('HGET', P..'busy', T)) or 0
  local till = call('HGET', P..'managed:'..T, 'until')
  local paused = till and (till == 'inf' or (tonumber(till) or 0) > now_us)
  out[#out + 1] = {T, due, first and format('%.0f', first) or '', runs, paused and 1 or 0}
end
return out
