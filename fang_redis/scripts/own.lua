-- The levels of a type that hold tasks of these kinds: a table with a true for each. Of a type that has many levels those
-- of each kind are read, so that tasks of other kinds cost nothing.
local function levels_of_kinds(T, kinds)
  local key, most, number = P..'levels:'..T, 200, 0
  local first = call('ZRANGE', key, 0, most)
  if #first <= most then return levels_in(first) end
  for _ in pairs(kinds) do number = number + 1 end
  if call('ZCARD', key) <= 2 * number then return levels_of(T) end
  local found = {}
  for k in pairs(kinds) do
    for _, member in ipairs(call('ZRANGEBYLEX', key, '['..k..'\0', '('..k..'\1')) do found[#found + 1] = member end
  end
  return levels_in(found)
end

