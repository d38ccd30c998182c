-- Removes the unique task with this hash that has not ended, and ends its period -> how many.
local found, gone = {}, 0
for _, names in ipairs({'unique', 'unclaimed'}) do
  local id = call('HGET', P..names, ARGV[1])
  if id then found[id] = true end
end
local period = call('HGET', P..'periods', ARGV[1])
local of_period = period and period:match('^%S+')
if of_period then found[of_period] = true end
for id in pairs(found) do
  local v = look(id)
  if v and not terminal[v.s] then
    leave(id, v); drop(id, true); forget(id); gone = gone + 1
  end
end
if of_period then forget(of_period) end
settle(); return gone
