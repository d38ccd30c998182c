-- Writes tasks that Python has changed, with all that indexes them, and a schedule; all of it, or nothing if one of them is
-- no longer as it was read, or a task meets an equal one. The name of the schedule, its row as it was read and as it is to
-- be, '' if there is none; 1 if pools are told of it. For each task: id, the state, attempt and time of change that were
-- read, '' thrice if none may be there; the number of values that follow, 0 to remove it; then fields and values; then the
-- number of errors that follow, -1 to leave them as they are. A task that waits in a managed type gets a lane. Returns
-- {'written', the ids of those}, {'stale', id or ''}, or {'twin', id, the equal one}.
local schedule, was, is = ARGV[1], ARGV[2], ARGV[3]
if schedule ~= '' and (call('HGET', P..'schedules', schedule) or '') ~= was then return {'stale', ''} end
local wanted, uniques, unclaimed = {}, {}, {}
local i = 5
while i <= #ARGV do
  local id, old = ARGV[i], look(ARGV[i])
  local state, attempt, updated = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if old then
    if old.s ~= state or tostring(old.a) ~= attempt or old.u ~= updated then return {'stale', id} end
  elseif state ~= '' then return {'stale', id} end
  local n = tonumber(ARGV[i + 4])
  local task = {id = id, old = old, first = i + 5, last = i + 4 + n, errors = -1}
  i = i + 5 + n
  if n > 0 then
    local v = {}
    for j = task.first, task.last, 2 do v[ARGV[j]] = ARGV[j + 1] end
    task.new = {s = v.s, T = v.T, p = tonumber(v.p), k = v.k, c = tonumber(v.c or 0), d = v.d, g = v.g, L = v.L,
      h = v.h, w = v.w, a = tonumber(v.a or 0), P = v.P, u = v.u}
    task.errors = tonumber(ARGV[i])
    task.first_error = i + 1
    i = i + 1 + math.max(0, task.errors)
  end
  wanted[#wanted + 1] = task
end
for _, task in ipairs(wanted) do  -- the hashes that these tasks let go of are free for others of them
  local old = task.old
  if old and not terminal[old.s] then
    if old.h then uniques[old.h] = task.id end
    if old.w then unclaimed[old.w] = task.id end
  end
end
local taken = {unique = {}, unclaimed = {}}
local function twin(names, freed, hash, id)
  if not hash then return nil end
  local there = taken[names][hash] or keeper(names, hash)
  if there and there ~= id and freed[hash] ~= there then return there end
  taken[names][hash] = id
end
for _, task in ipairs(wanted) do
  local v = task.new
  if v and not terminal[v.s] then
    local there = twin('unique', uniques, v.h, task.id) or v.a == 0 and twin('unclaimed', unclaimed, v.w, task.id)
    if there then return {'twin', task.id, there} end
  end
end
local laned = {'written'}
for _, task in ipairs(wanted) do
  if task.old then expect_indexes(task.old) end
  if task.new then expect_indexes(task.new); expect('hash', P..'managed:'..task.new.T) end
end
for _, task in ipairs(wanted) do
  local old, v = task.old, task.new
  if old then leave(task.id, old) end
  if old and v and old.s == 'in_progress' and v.s == old.s then say('t'..v.P) end  -- it is to be cancelled
end
for _, task in ipairs(wanted) do
  local id, v = task.id, task.new
  if not v then
    drop(id, true)
  else
    if call('EXISTS', row(id)) == 1 then call('DEL', row(id)) end  -- as a first write it would let all others through
    call('HSET', row(id), unpack(ARGV, task.first, task.last))
    if task.errors >= 0 then
      call('DEL', errors_of(id))
      if task.errors > 0 then
        call('RPUSH', errors_of(id), unpack(ARGV, task.first_error, task.first_error + task.errors - 1))
      end
    end
    if not task.old then born(id) end
    if not v.L and not terminal[v.s] and v.s ~= 'in_progress' and is_managed(v.T) then
      v.L = ''; call('HSET', row(id), 'L', ''); table.insert(laned, id)
    end
    enter(id, v)
  end
end
if #wanted == 0 then admit() end  -- a new task is refused
if is ~= '' then call('HSET', P..'schedules', schedule, is)
elseif was ~= '' then call('HDEL', P..'schedules', schedule) end
if ARGV[4] == '1' then say('t00000000-0000-0000-0000-000000000000') end
settle(); return laned
