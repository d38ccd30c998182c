-- Counts tasks: numbers of names of zsets, of sets and of hashes with numbers; then those names. Returns their sum.
local sum, place = 0, 4
for i, command in ipairs({'ZCARD', 'SCARD', 'HVALS'}) do
  for j = place, place + ARGV[i] - 1 do
    local found = call(command, P..ARGV[j])
    if command == 'HVALS' then for _, number in ipairs(found) do sum = sum + number end else sum = sum + found end
  end
  place = place + ARGV[i]
end
return sum
