-- Removes tasks, and ends their periods, also of those that are gone already. ARGV[1] is '' for any task, 'scheduled' for those alone that are new, never ran and
-- are not due; ids follow. Returns how many.
local gone = 0
for i = 2, #ARGV do
  local id = ARGV[i]
  local v = look(id)
  if v and (ARGV[1] == '' or (v.s == 'new' and v.a == 0 and tonumber(v.d) > now_us)) then
    expect_indexes(v); expect_periods()
    leave(id, v); drop(id, true); forget(id); gone = gone + 1
  end
  if not v and ARGV[1] == '' then expect_periods(); forget(id) end
end
settle(); return gone
