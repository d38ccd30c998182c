-- Claims the tasks of a managed type that Python has picked, if all is still as it was when it picked. Pool, type, version
-- that was read, when the type's rate is full again or '', the lane to begin behind when tasks are fetched by hand, '=' before
-- it, or ''; the number of lanes whose rates are charged, each with when it is full again; then ids. Returns {now, 1 if the pool is registered, 'taken'
-- if another pool has claimed from the type meanwhile, 'moved' if one of the tasks has gone elsewhere, else 'started'; then
-- the id and the values of each task}.
local pool, T, version, tat, fetched = unpack(ARGV, 1, 5)
local rates, key = tonumber(ARGV[6]), P..'managed:'..T
if call('HEXISTS', P..'beats', pool) == 0 then return {now, 0, 'started'} end
if call('HGET', key, 'version') ~= version or not is_managed(T) then return {now, 1, 'taken'} end
local tasks = {}
for i = 7 + 2 * rates, #ARGV do
  local v = look(ARGV[i])
  if not v or (v.s ~= 'new' and v.s ~= 'retried') or v.T ~= T or tonumber(v.d) > now_us then return {now, 1, 'moved'} end
  tasks[#tasks + 1] = {ARGV[i], v}
end
local out = {now, 1, 'started'}
for _, task in ipairs(tasks) do
  local id, v = task[1], task[2]
  leave(id, v)
  v.s, v.a, v.P = 'in_progress', v.a + 1, pool
  call('HSET', row(id), 's', v.s, 'a', v.a, 'P', pool, 'C', now, 'u', now)
  enter(id, v)
  out[#out + 1] = id
  out[#out + 1] = call('HMGET', row(id), 'm', 'k', 'a', 'r', 'x', 'c', 'p', 'd', 'H', 'o', 'X', 'q', 'g', 'T')
end
for i = 7, 6 + 2 * rates, 2 do call('HSET', P..'tats:'..T, ARGV[i], ARGV[i + 1]) end
if tat ~= '' then call('HSET', key, 'tat', tat) end
if fetched ~= '' then call('HSET', key, 'fetched_last', fetched:sub(2)) end
call('HSET', key, 'version', call('HINCRBY', P..'meta', 'changes', 1))
settle(); return out
