-- Inserts tasks, due at ARGV[1], or, if that is '', ARGV[2] microseconds from now; ARGV[3] is 1 if the caller has said
-- when. ARGV[4] is 'all', or 'plain' for one task that has no hash, no lane, no terms, no end and no due time of its own;
-- or, for an insert of several scripts, 'look', which writes nothing but that the insert is refused, and 'write', which
-- then does nothing; ARGV[5] names that insert. ARGV[6] has the names of the fields of options, which 'replace' takes
-- over. ARGV[7] is '', or, if a pool claims behind the insert, the number of the insert's last argument: those of the
-- claim follow, see claiming.lua. For each task ten values follow: id, kind, type, priority, hash or '', '=' and its lane
-- or '', when it expires ('=' and a time, '+' and a span from when it is due, ''), its terms as JSON or '', when it is due
-- or '' for the above, and the number of fields and values that follow. Returns {now, due, managed types whose tasks got a
-- lane, what}: 'refused', number of the task, id of the equal one; or for each task that is not simply new 'row', number,
-- 1 if it was there, id, fields, errors; or 'outlived', number, id, when that was inserted. If a pool claims, it returns
-- {what the claim returns, or its error, and the above}.
local last = tonumber(ARGV[7]) or #ARGV
local due = ARGV[1] ~= '' and ARGV[1] or plus(now_us, ARGV[2])
claimer = ARGV[last + 1] or ''

-- Whether the claim would find nothing, and take a task that is new.
local function finds_nothing()
  if call('HEXISTS', P..'beats', claimer) == 0 then return false end
  for i = last + 8, last + 7 + ARGV[last + 5] do
    local levels = not is_managed(ARGV[i]) and call('ZRANGE', P..'levels:'..ARGV[i], 0, 20)
    if not levels or #levels > 20 then return false end
    for _, l in ipairs(levels_in(levels)) do
      if #call('ZRANGE', line(ARGV[i], l), '-inf', now, 'BYSCORE', 'LIMIT', 0, 1) > 0 then return false end
    end
  end
  return true
end

-- A plain task, which the pool holds at once if its claim would bring that task alone. This comes before all functions of
-- the other cases: to make them takes longer. If a key holds a value of another type, those try again, and take back what
-- was written.
if ARGV[4] == 'plain' then
  local id, k, T, p = unpack(ARGV, 8, 11)
  local is_new = false
  local function write()
    is_new = not is_managed(T) and call('EXISTS', row(id)) == 0
    local f = {'k', k, 'T', T, 'p', p, 'd', due, 'n', now, 'u', now, unpack(ARGV, 18, last)}
    if is_new and claimer == '' then
      call('HSET', row(id), 's', 'new', unpack(f)); call('ZADD', P..'ids', 0, id)
      local l = level(p, 'new', 0, nil, k)
      call('ZADD', line(T, l), due, id); call('ZADD', P..'levels:'..T, 0, indexed(l)); call('SADD', P..'types', T)
      if due - now_us <= 1e7 and is_awaited(T) then say('w'..T) end
      return {now, due, {}}
    elseif is_new and select(2, pcall(finds_nothing)) == true then
      call('HSET', row(id), 's', 'in_progress', 'a', 1, 'P', claimer, 'C', now, unpack(f)); call('ZADD', P..'ids', 0, id)
      call('SADD', P..'holders', claimer); call('SADD', P..'held:'..claimer, id)
      add_to(P..'running:'..T, '', 1); add_to(P..'busy', T, 1)
      return {{now, 1, {}, id, claimed(id)}, {now, due, {}}}
    end
  end
  local is_written, reply = pcall(write)
  if is_written and reply then return reply end
  -- A row that is not there is not removed: that would be the first write, which lets others through when the memory is full.
  if not is_written and is_new and call('EXISTS', row(id)) == 1 then call('UNLINK', row(id)) end
end

-- prelude
-- include claiming
local is_due_given, mode, refusal = ARGV[3] == '1', ARGV[4], P..'refused:'..ARGV[5]
local managed, out = {}, {now, due, {}}
if mode == 'write' and call('EXISTS', refusal) == 1 then return out end

local rows, i = {}, 8
while i <= last do
  local terms = ARGV[i + 7]
  rows[#rows + 1] = {i = i, id = ARGV[i], k = ARGV[i + 1], h = ARGV[i + 4], terms = terms ~= '' and cjson.decode(terms) or {}}
  i = i + 10 + ARGV[i + 9]
end

local function with_claim(inserted)
  if claimer == '' then return inserted end
  local own = {}
  for i = last + 1, #ARGV do own[#own + 1] = ARGV[i] end
  local is_done, reply = pcall(claim, own)
  if not is_done and type(reply) ~= 'table' then reply = redis.error_reply(reply) end
  return {reply, inserted}
end

-- The id of the equal task that keeps a row out; and when it was inserted, if its period does.
local function twin_of(r)
  local there = keeper('unique', r.h) or keeper('unclaimed', r.terms.waiting)
  if there then return there end
  local period = r.terms.period and call('HGET', P..'periods', r.terms.period)
  if period then
    local id, inserted, till = period:match('^(%S+) (%S+) (%S+)$')
    if till == 'inf' or (tonumber(till) or 0) > now_us then return id, inserted end
  end
end

if mode ~= 'write' then
  for number, r in ipairs(rows) do
    local twin = r.terms.on_conflict == 'raise' and call('EXISTS', row(r.id)) == 0 and twin_of(r)
    if twin then
      if mode == 'look' then call('SET', refusal, 1) end
      return with_claim({now, due, {}, 'refused', number, twin})
    end
  end
  if mode == 'look' then return out end
end

-- When the task expires that is due at this time; nil if it does not.
local function expires_at(i, at)
  local sign, us = ARGV[i + 6]:sub(1, 1), ARGV[i + 6]:sub(2)
  if sign == '=' then return us end
  if sign == '+' then return plus(math.min(at + us, 253402041600000000), 0) end
end

local function lane_in(i)
  if ARGV[i + 5] ~= '' then return ARGV[i + 5]:sub(2) end
  if is_managed(ARGV[i + 2]) then managed[ARGV[i + 2]] = true; return '' end
end

local function due_of(i) return ARGV[i + 8] ~= '' and ARGV[i + 8] or due end

local function add(r)
  local i = r.i
  r.is_new = true
  local id, k, T, p, h = unpack(ARGV, i, i + 4)
  local at, lane = due_of(i), lane_in(i)
  r.lane = lane
  local f = {'s', 'new', 'k', k, 'T', T, 'p', p, 'd', at, 'n', now, 'u', now, unpack(ARGV, i + 10, i + 9 + ARGV[i + 9])}
  local function set(name, value) if value then f[#f + 1] = name; f[#f + 1] = value end end
  set('L', lane); set('X', expires_at(i, at)); set('h', h ~= '' and h); set('w', r.terms.waiting)
  call('HSET', row(id), unpack(f)); born(id)
  if h ~= '' then call('HSET', P..'unique', h, id) end
  if r.terms.waiting then call('HSET', P..'unclaimed', r.terms.waiting, id) end
  if r.terms.period then
    local period, till = r.terms.period, r.terms.within and plus(now_us, r.terms.within) or 'inf'
    local over = call('HGET', P..'periods', period)  -- one that has ended, and was not pruned yet
    if over then call('HDEL', P..'period_of', over:match('^%S*')) end
    call('HSET', P..'periods', period, id..' '..now..' '..till)
    call('HSET', P..'period_of', id, period)
    if till == 'inf' then call('ZREM', P..'period_ends', period) else call('ZADD', P..'period_ends', till, period) end
  end
  put(id, T, tonumber(p), 'new', 0, nil, k, at, lane)
end

-- Gives a waiting task the due time of an insert that meets it, and with 'replace' its payload and options.
local moved = {}
local function move(id, r)
  local v, i = look(id), r.i
  if v.s ~= 'new' and v.s ~= 'retried' then return end
  settle(); leave(id, v)
  local asked = due_of(i)
  local at = asked
  if not is_due_given and tonumber(v.d) < tonumber(at) then at = v.d end
  if v.a > 0 and tonumber(v.d) > tonumber(at) then at = v.d end
  v.d, v.u = at, plus(math.max(now_us, v.u + 1), 0)
  call('HSET', row(id), 'd', v.d, 'u', v.u)
  local function set(name, value) if value then call('HSET', row(id), name, value) else call('HDEL', row(id), name) end end
  set('X', expires_at(i, tonumber(at) < tonumber(asked) and asked or at))
  if r.terms.on_conflict == 'replace' then
    v.T, v.p, v.L = ARGV[i + 2], tonumber(ARGV[i + 3]), lane_in(i)
    set('T', v.T); set('p', ARGV[i + 3]); set('L', v.L)
    for name in ARGV[6]:gmatch('[^,]+') do set(name, nil) end
    call('HSET', row(id), unpack(ARGV, i + 10, i + 9 + ARGV[i + 9]))
  end
  enter(id, v); moved[id] = true
end

-- Removes what was written of a task, after an error in the middle. Another client has written a value of another type
-- over a key, so that any of these may fail, too.
local function take_back(r)
  local id, k, T, p, h = unpack(ARGV, r.i, r.i + 4)
  local l = level(tonumber(p), 'new', 0, nil, k, r.lane)
  redis.pcall('UNLINK', row(id)); redis.pcall('ZREM', P..'ids', id)
  redis.pcall('ZREM', line(T, l), id); pcall(sweep, T, l)
  if has_key(r.lane) then pcall(leave_lane, id, T, tonumber(p), r.lane) end
  if h ~= '' then redis.pcall('HDEL', P..'unique', h) end
  if r.terms.waiting then redis.pcall('HDEL', P..'unclaimed', r.terms.waiting) end
  if r.terms.period then
    redis.pcall('HDEL', P..'periods', r.terms.period); redis.pcall('HDEL', P..'period_of', id)
    redis.pcall('ZREM', P..'period_ends', r.terms.period)
  end
end

-- Expects what a row is written to, and the task that it changes. What was inserted can be taken back after an error, but
-- not what was changed.
local function expect_row(r)
  local i, T, p = r.i, ARGV[r.i + 2], tonumber(ARGV[r.i + 3])
  local new = {s = 'new', T = T, p = p, k = r.k, c = 0, L = lane_in(i), h = r.h ~= '' and r.h, w = r.terms.waiting}
  expect_indexes(new)
  if r.terms.period then expect_periods() end
  local twin = twin_of(r)
  local old = twin and look(twin)
  if not old then return end
  expect_indexes(old)
  if r.terms.on_conflict == 'replace' then old.T, old.p, old.L = T, p, new.L end
  expect_indexes(old)
end

local met, outlived = {}, {}
local function write()
  for number, r in ipairs(rows) do
    local twin, inserted = twin_of(r)
    local changes = r.terms.on_conflict == 'replace' or r.terms.on_conflict == 'postpone'
    if call('EXISTS', row(r.id)) == 1 and not (twin == r.id and r.terms.on_conflict == 'replace') then
      met[number] = r.id
    elseif not twin then
      add(r)
    elseif call('EXISTS', row(twin)) == 1 then
      if changes then move(twin, r) end
      met[number] = twin
    else
      outlived[number] = {twin, inserted}
    end
  end
  settle()
end

for _, r in ipairs(rows) do
  if r.terms.on_conflict == 'replace' or r.terms.on_conflict == 'postpone' then
    for _, each in ipairs(rows) do expect_row(each) end
    break
  end
end
local is_written, problem = pcall(write)
if not is_written then
  for _, r in ipairs(rows) do if r.is_new then take_back(r) end end
  return type(problem) == 'table' and problem or redis.error_reply(problem)
end

for number, r in ipairs(rows) do
  local id = met[number] or moved[r.id] and r.id
  if id then
    for _, each in ipairs({'row', number, met[number] and 1 or 0, id, hash_of(id),
      entries_of(id)}) do out[#out + 1] = each end
  elseif outlived[number] then
    for _, each in ipairs({'outlived', number, outlived[number][1], outlived[number][2]}) do out[#out + 1] = each end
  end
end
for T in pairs(managed) do table.insert(out[3], T) end
return with_claim(out)
