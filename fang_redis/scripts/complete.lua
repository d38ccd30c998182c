-- Writes outcomes, each if the pool holds the task under its attempt. Pool, number of removals, id and attempt of each;
-- then eight values of each other outcome: id, attempt, state, delay or '', charge, '=' and a message or '', an entry of
-- the errors or '', and letters: f if it forgets crashes, c if it charges one, a if it answers a request to cancel.
-- Returns {now, the ids that were written}.
local pool, n, done, gone, kept, keys = ARGV[1], tonumber(ARGV[2]), {}, {}, {}, {}
for i = 3, 2 + 2 * n, 2 do
  local id = ARGV[i]
  local v = fields_of(id, 'a', 'P', 'h', 'E', 'T', 'L')
  if v[1] == ARGV[i + 1] and v[2] == pool then gone[#gone + 1] = {id, v}; done[#done + 1] = id end
end
for i = 3 + 2 * n, #ARGV, 8 do
  local id, v = ARGV[i], look(ARGV[i])
  if v and v.P == pool and tostring(v.a) == ARGV[i + 1] then kept[#kept + 1] = {i, v}; done[#done + 1] = id end
end
expect('zset', P..'ids')
for _, pair in ipairs(gone) do if pair[2][3] then expect('hash', P..'unique') end end
for _, pair in ipairs(kept) do  -- as it is to be, but for its times
  local i, v = pair[1], pair[2]
  v.s = ARGV[i + 2]
  if ARGV[i + 7]:find('f') then v.c, v.g = 0, false
  elseif ARGV[i + 7]:find('c') then v.c = math.min(v.c + 1, 32767) end
  if v.h then expect('hash', P..'unique') end
  expect_indexes(v)
end
each('SREM', P..'held:'..pool, done)  -- the first write, which is let through when the memory is full
for _, pair in ipairs(gone) do
  local id, v = pair[1], pair[2]
  keys[#keys + 1] = row(id); deaths[#deaths + 1] = id
  if v[4] then keys[#keys + 1] = errors_of(id) end
  free('unique', v[3], id); count(v[5] or '', v[6], -1)
end
for i = 1, #keys, 2000 do call('UNLINK', unpack(keys, i, math.min(i + 1999, #keys))) end
for _, pair in ipairs(kept) do
  local i, v = pair[1], pair[2]
  local id, _, state, delay, charge, message, text, letters = unpack(ARGV, i, i + 7)
  local f = {'s', state, 'u', now}
  local function set(name, value) f[#f + 1] = name; f[#f + 1] = value end
  count(v.T, v.L, -1)
  call('HDEL', row(id), 'P', 'C', letters:find('a') and 'q' or 'P', letters:find('f') and 'g' or 'P')
  if letters:find('[fc]') then set('c', v.c) end
  if delay ~= '' then v.d = plus(now_us, delay); set('d', v.d) end
  if charge ~= '0' then set('r', format('%.0f', whole(call('HGET', row(id), 'r'), 0, 2147483647, 0) + charge)) end
  if message ~= '' then set('e', message:sub(2)) end
  call('HSET', row(id), unpack(f))
  if text ~= '' then entry(id, text) end
  if terminal[state] then
    ended(id, v.T, state); free('unique', v.h, id)
  else
    put(id, v.T, v.p, state, v.c, v.g, v.k, v.d, v.L)
  end
end
settle(); return {now, done}
