-- Gives back what a pool holds beyond what it knows: pool, known ids -> how many. Nothing is charged.
local pool, known, back = ARGV[1], {}, {}
for i = 2, #ARGV do known[ARGV[i]] = true end
for _, id in ipairs(call('SMEMBERS', P..'held:'..pool)) do
  if not known[id] then
    local v = look(id)
    if v and v.P == pool then
      local is_repeated = v.c > 0 or whole(call('HGET', row(id), 'r'), 0, 2147483647, 0) > 0
      back[#back + 1] = {id, v, is_repeated and 'retried' or 'new'}
    else
      call('SREM', P..'held:'..pool, id)
    end
  end
end
for _, pair in ipairs(back) do
  local id, v, state = unpack(pair)
  local held = v.s
  expect_indexes(v); v.s = state; expect_indexes(v); v.s = held
  leave(id, v)
  v.s = state
  call('HDEL', row(id), 'P', 'C'); call('HSET', row(id), 's', v.s, 'u', now)
  enter(id, v)
end
settle(); return #back
