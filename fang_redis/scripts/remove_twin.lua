-- Removes the unique task with this hash that has not ended, and ends its period -> how many.
expect_periods()
local found, gone = {}, 0
for _, names in ipairs({'unique', 'unclaimed'}) do
  expect('hash', P..names)
  local id = call('HGET', P..names, ARGV[1])
  if id then found[id] = true end
end
local period = call('HGET', P..'periods', ARGV[1])
local of_period = period and period:match('^%S+')
if of_period then found[of_period] = true end
for id in pairs(found) do
  local v = look(id)
  if v and not terminal[v.s] then
    expect_indexes(v)
    leave(id, v); drop(id, true); forget(id); gone = gone + 1
  end
end
if of_period then forget(of_period) end
settle(); return gone
