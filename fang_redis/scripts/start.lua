-- Claims the tasks of a managed type that Python has picked, if all is still as it was when it picked. Pool, type, the
-- version that was read, '=' and the lane to begin behind when tasks are fetched by hand, or ''; the number of rates
-- that are charged, each with its lane, '=' before it, or '' for that of the type, when it was full again, and by how
-- much it is charged; then ids. Returns {now, 1 if the pool is registered, 'taken' if another pool has claimed from the
-- type meanwhile, 'moved' and its id if one of the tasks has gone elsewhere, else 'started'; then the id and the values of
-- each task}.
local pool, T, version, fetched = unpack(ARGV, 1, 4)
local rates, key = tonumber(ARGV[5]), P..'managed:'..T
if call('HEXISTS', P..'beats', pool) == 0 then return {now, 0, 'started'} end
if call('HGET', key, 'version') ~= version or not is_managed(T) then return {now, 1, 'taken'} end
local tasks = {}
for i = 6 + 3 * rates, #ARGV do
  local v = look(ARGV[i])
  local waits = v and (v.s == 'new' or v.s == 'retried')
  if not waits or v.T ~= T or tonumber(v.d) > now_us then return {now, 1, 'moved', ARGV[i]} end
  tasks[#tasks + 1] = {ARGV[i], v}
end
expect('set', P..'held:'..pool); expect('set', P..'holders'); expect('hash', P..'tats:'..T)
for _, task in ipairs(tasks) do expect_indexes(task[2]) end
local out = {now, 1, 'started'}
for _, task in ipairs(tasks) do
  local id, v = task[1], task[2]
  leave(id, v)
  v.s, v.a, v.P = 'in_progress', v.a + 1, pool
  call('HSET', row(id), 's', v.s, 'a', v.a, 'P', pool, 'C', now, 'u', now)
  enter(id, v)
  out[#out + 1] = id
  out[#out + 1] = claimed(id)
end
for i = 6, 5 + 3 * rates, 3 do  -- a start counts from when it is made, which is a bit after it was picked
  local tat = plus(math.max(now_us, ARGV[i + 1]), ARGV[i + 2])
  if ARGV[i] == '' then call('HSET', key, 'tat', tat) else call('HSET', P..'tats:'..T, ARGV[i]:sub(2), tat) end
end
if fetched ~= '' then call('HSET', key, 'fetched_last', fetched:sub(2)) end
call('HSET', key, 'version', add_to(P..'meta', 'changes', 1))
settle(); return out
