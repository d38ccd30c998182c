-- Removes every task that was inserted by a time, in the order of their ids, the greatest first: how many to look at, the
-- id before which to begin, or '', and the time. Returns {how many were removed, the id before which to go on, '' if
-- there are no more}.
local start, began, gone = ARGV[2] == '' and '+' or '('..ARGV[2], tonumber(ARGV[3]), 0
local ids = call('ZRANGE', P..'ids', start, '-', 'BYLEX', 'REV', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  local v = look(id)
  if v and whole(call('HGET', row(id), 'n'), FIRST_TIME, LAST_TIME, 0) <= began then
    expect_indexes(v); expect_periods()
    leave(id, v); drop(id, v.E); forget(id); gone = gone + 1
  end
end
settle(); return {gone, #ids == tonumber(ARGV[1]) and ids[#ids] or ''}
