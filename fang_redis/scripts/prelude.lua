-- Every script begins with this. KEYS[1] is the prefix of all names, KEYS[2] the queue's channel; layout.py explains the
-- keys. An error does not undo what a script has written: scripts look at everything before their first write, which is
-- one that is let through when the memory is full, unless it is an insert. Another client may have put a value of another
-- type in the place of any key: before its first write of a task a script expects the keys that it is about to write to.
local P, CHANNEL, call, format = KEYS[1], KEYS[2], redis.call, string.format
local clock = call('TIME')
local now_us = clock[1] * 1e6 + clock[2]
local now = format('%.0f', now_us)  -- tostring() and .. would write 1.8e+15
local function plus(time, us) return format('%.0f', time + us) end
local function row(id) return P..'t:'..id end
local function errors_of(id) return P..'e:'..id end
local function line(T, l) return P..'line:'..#T..':'..T..':'..l end
local function lane_line(T, p, lane) return P..'lane:'..#T..':'..T..':'..(p + 2)..':'..lane end
local function lanes_of(T, p) return P..'lanes:'..#T..':'..T..':'..(p + 2) end
local function done_line(state, T) return P..'done:'..state..':'..T end

-- Whether a task has a lane of its own. One whose key is empty counts like one without.
local function has_key(lane) return lane and lane ~= '' end

-- The level of a waiting task: see layout.py.
local function level(p, state, c, g, k, lane)
  local mark = c >= 2 and 's'..(g or '') or state == 'retried' and 'r' or '-'
  return (p + 2)..mark..(has_key(lane) and '=' or ':')..k
end

-- Levels as their index has them: the kind comes first, so that those of a kind lie together.
local function indexed(l) local head, k = l:match('^(.-[-rs]%d*[:=])(.*)$'); return k..'\0'..head end
local function levels_in(members)
  for i, member in ipairs(members) do local k, head = member:match('^(.*)%z(.*)$'); members[i] = (head or '')..(k or '') end
  return members
end
local function levels_of(T) return levels_in(call('ZRANGE', P..'levels:'..T, 0, -1)) end

-- unpack() has a limit: long lists are sent in parts.
local function each(command, key, list)
  for i = 1, #list, 2000 do call(command, key, unpack(list, i, math.min(i + 1999, #list))) end
end

-- What is written at the end, in one call for each key: settle() does it.
local lines, lane_lines, woken, running, freed, births, deaths = {}, {}, {}, {}, {}, {}, {}

local function gather(into, key, due, id, T, sub)
  local rows = into[key]
  if not rows then rows = {T = T, sub = sub}; into[key] = rows end
  rows[#rows + 1] = due; rows[#rows + 1] = id
end

local function count(T, lane, by)
  local of = running[T]
  if not of then of = {}; running[T] = of end
  of[lane or ''] = (of[lane or ''] or 0) + by
end

-- Has a waiting task be found by claims; who waits for its type is woken if it is due within 10 s.
local function put(id, T, p, state, c, g, k, due, lane)
  local l = level(p, state, c, g, k, lane)
  gather(lines, line(T, l), due, id, T, l)
  if has_key(lane) then gather(lane_lines, lane_line(T, p, lane), due, id, lanes_of(T, p), lane) end
  if due - now_us <= 1e7 then woken[T] = true end
end

local function say(text) call('PUBLISH', CHANNEL, text) end

-- Adds to a number of a hash, and returns what it is then. If another client has put something else there, it begins
-- at 0.
local function add_to(key, field, by)
  local is = redis.pcall('HINCRBY', key, field, by)
  if type(is) == 'number' then return is end
  if is.err:find('WRONGTYPE', 1, true) then call('UNLINK', key) else call('HDEL', key, field) end
  return call('HINCRBY', key, field, by)
end

-- The pool that claims as soon as the script has ended, so that nobody need wake it.
local claimer = ''

-- Whether a pool waits for a type, other than that one.
local function is_awaited(T)
  local number = call('SCARD', P..'waiting:'..T)
  return number > 1 or number == 1 and (claimer == '' or call('SISMEMBER', P..'waiting:'..T, claimer) == 0)
end

local function settle()
  for key, rows in pairs(lines) do
    each('ZADD', key, rows); call('ZADD', P..'levels:'..rows.T, 0, indexed(rows.sub)); call('SADD', P..'types', rows.T)
  end
  for key, rows in pairs(lane_lines) do each('ZADD', key, rows); call('ZADD', rows.T, 0, rows.sub) end
  for T, of in pairs(running) do
    local all = 0
    for lane, by in pairs(of) do
      if by ~= 0 then
        local is = add_to(P..'running:'..T, lane, by)
        if is <= 0 then call('HDEL', P..'running:'..T, lane) end
        all = all + by - math.min(is, 0)
      end
    end
    if all ~= 0 and add_to(P..'busy', T, all) <= 0 then call('HDEL', P..'busy', T) end
  end
  each('ZREM', P..'ids', deaths); each('ZADD', P..'ids', births)
  for T in pairs(woken) do if is_awaited(T) then say('w'..T) end end
  for T in pairs(freed) do if call('EXISTS', P..'managed:'..T) == 1 then say('l'..T) end end
  lines, lane_lines, woken, running, freed, births, deaths = {}, {}, {}, {}, {}, {}, {}
end

-- Forgets a line that is empty now.
local function sweep(T, l)
  if call('EXISTS', line(T, l)) == 0 then call('ZREM', P..'levels:'..T, indexed(l)) end
  if call('EXISTS', P..'levels:'..T) == 0 then call('SREM', P..'types', T) end
end

local function leave_lane(id, T, p, lane)
  call('ZREM', lane_line(T, p, lane), id)
  if call('EXISTS', lane_line(T, p, lane)) == 0 then call('ZREM', lanes_of(T, p), lane) end
end

-- The id of the task that keeps equal ones out by a hash; nil if another client has removed it.
local function keeper(names, hash)
  local id = hash and hash ~= '' and call('HGET', P..names, hash)
  return id and call('EXISTS', row(id)) == 1 and id or nil
end

-- Lets go of a hash, if it is this task's.
local function free(names, hash, id)
  if hash and call('HGET', P..names, hash) == id then call('HDEL', P..names, hash) end
end

-- Notes a new task; settle() has to follow.
local function born(id) births[#births + 1] = 0; births[#births + 1] = id end

-- Removes a task; settle() has to follow.
local function drop(id, E)
  deaths[#deaths + 1] = id
  if E then call('UNLINK', row(id), errors_of(id)) else call('UNLINK', row(id)) end
end

-- Ends the period for which a task keeps equal ones out.
local function forget(id)
  local period = call('HGET', P..'period_of', id)
  if not period then return end
  call('HDEL', P..'period_of', id)
  if (call('HGET', P..'periods', period) or ''):match('^%S+') == id then
    call('HDEL', P..'periods', period); call('ZREM', P..'period_ends', period)
  end
end

-- Adds to the errors of a task. The time is spliced in: cjson would spoil numbers and empty arrays.
local function entry(id, text)
  local text_then = text:sub(1, -2)..',"time":'..now..'}'
  if type(redis.pcall('RPUSH', errors_of(id), text_then)) == 'table' then  -- another client has put something else there
    call('UNLINK', errors_of(id)); call('RPUSH', errors_of(id), text_then)
  end
  call('LTRIM', errors_of(id), -10, -1)
  call('HSET', row(id), 'E', 1)
end

local function ended(id, T, state, time)
  call('ZADD', done_line(state, T), time or now, id); call('SADD', P..'ended', T)
end

-- Has a script write although the memory is full: it is judged by its first write.
local function admit() call('HDEL', P..'meta', '-') end

local terminal = {finished = true, failed = true, cancelled = true}

-- Forgets that a type has tasks that have ended, if it has none any more.
local function sweep_ended(T)
  for state in pairs(terminal) do if call('EXISTS', done_line(state, T)) == 1 then return end end
  call('SREM', P..'ended', T)
end

-- Fields of a task; none if there is no such hash. Other clients may have written anything in its place.
local function fields_of(id, ...)
  local v = redis.pcall('HMGET', row(id), ...)
  return v.err and {} or v
end

-- What a pool gets of a task that it claims, and the lane and the hash that the task had.
local function claimed(id)
  return fields_of(id, 'm', 'k', 'a', 'r', 'x', 'c', 'p', 'd', 'H', 'o', 'X', 'q', 'g', 'T', 'L', 'w')
end

-- All fields and values of a task, and its errors, whatever other clients have written in their places.
local function hash_of(id)
  local v = redis.pcall('HGETALL', row(id))
  return v.err and {} or v
end
local function entries_of(id)
  local v = redis.pcall('LRANGE', errors_of(id), 0, -1)
  return v.err and {} or v
end

-- The whole number in a text, if it lies between these; the other value in place of anything else.
local function whole(text, least, most, otherwise)
  local is_whole = type(text) == 'string' and (text == '0' or text:find('^%-?[1-9]%d*$'))
  local number = is_whole and tonumber(text)
  return number and number >= least and number <= most and number or otherwise
end
local FIRST_TIME, LAST_TIME, MOST_ATTEMPT = -62135596800000000, 253402300799999999, 1e14 - 1  -- as in records.py

-- What indexes go by, of one task; nil if there is none. What other clients have removed or spoilt has a value all the
-- same, so that no script fails on it when it has written of other tasks.
local function look(id)
  local v = fields_of(id, 's', 'T', 'p', 'k', 'c', 'd', 'g', 'L', 'h', 'w', 'a', 'P', 'u', 'E')
  if not v[1] then return nil end
  local is_known = terminal[v[1]] or v[1] == 'new' or v[1] == 'retried' or v[1] == 'in_progress'
  return {s = is_known and v[1] or 'failed', is_odd = not is_known, T = v[2] or '', p = whole(v[3], -2, 2, 0), k = v[4] or '', c = whole(v[5], 0, 32767, 0),
    d = whole(v[6], FIRST_TIME, LAST_TIME) and v[6] or now, g = whole(v[7], 0, 32767) and v[7], L = v[8], h = v[9],
    w = v[10], a = whole(v[11], 0, MOST_ATTEMPT, 0), P = v[12] or '',
    u = whole(v[13], FIRST_TIME, LAST_TIME) and v[13] or '0', E = v[14]}
end

-- Takes a task, as it was looked at, out of every index; settle() has to follow, and tells of a slot that is free.
local function leave(id, v)
  if v.s == 'in_progress' then
    call('SREM', P..'held:'..v.P, id); count(v.T, v.L, -1); freed[v.T] = true
  elseif terminal[v.s] then
    call('ZREM', done_line(v.s, v.T), id)
    if call('EXISTS', done_line(v.s, v.T)) == 0 then sweep_ended(v.T) end
    return
  else
    local l = level(v.p, v.s, v.c, v.g, v.k, v.L)
    call('ZREM', line(v.T, l), id); sweep(v.T, l)
    if has_key(v.L) then leave_lane(id, v.T, v.p, v.L) end
    if v.a == 0 then free('unclaimed', v.w, id) end
  end
  free('unique', v.h, id)
end

-- Puts a task, as look() would find it, into every index; settle() has to follow.
local function enter(id, v)
  if terminal[v.s] then ended(id, v.T, v.s, v.u); return end
  if v.h then call('HSET', P..'unique', v.h, id) end
  if v.s == 'in_progress' then
    call('SADD', P..'held:'..v.P, id); call('SADD', P..'holders', v.P); count(v.T, v.L, 1)
  else
    put(id, v.T, v.p, v.s, v.c, v.g, v.k, v.d, v.L)
    if v.w and v.a == 0 then call('HSET', P..'unclaimed', v.w, id) end
  end
end

-- Ends the script with an error if a key holds a value of another type than its own. Tasks that were written before are
-- settled: each is in all its indexes.
local known_types = {}
local function expect(wanted, key)
  if known_types[key] then return end
  local is = call('TYPE', key).ok
  if is ~= wanted and is ~= 'none' then
    settle()
    local name = key:find(P..'lane:', 1, true) == 1 and P..'lane:*' or key  -- a lane may be a customer's name
    error(format('WRONGTYPE the key %s holds a %s in place of a %s: delete it', name, is, wanted), 0)
  end
  known_types[key] = true
end

-- Expects what leave() and enter() write to, for a task as look() finds it.
local function expect_indexes(v)
  expect('zset', P..'ids')
  if terminal[v.s] then expect('zset', done_line(v.s, v.T)); expect('set', P..'ended'); return end
  if v.h then expect('hash', P..'unique') end
  if v.s == 'in_progress' then expect('set', P..'held:'..v.P); expect('set', P..'holders'); return end
  expect('zset', line(v.T, level(v.p, v.s, v.c, v.g, v.k, v.L)))
  expect('zset', P..'levels:'..v.T); expect('set', P..'types'); expect('set', P..'waiting:'..v.T)
  if has_key(v.L) then expect('zset', lane_line(v.T, v.p, v.L)); expect('zset', lanes_of(v.T, v.p)) end
  if v.w then expect('hash', P..'unclaimed') end
end

-- Expects what forget() writes to.
local function expect_periods()
  expect('hash', P..'periods'); expect('hash', P..'period_of'); expect('zset', P..'period_ends')
end

-- Whether plain claims leave a task type alone: see managed:TYPE in layout.py.
local known_managed = {}
local function is_managed(T)
  if known_managed[T] == nil then
    local v = call('HMGET', P..'managed:'..T, 'limited', 'until')
    local till = v[2] or ''
    known_managed[T] = v[1] == '1' or till == 'inf' or (tonumber(till) or 0) > now_us
  end
  return known_managed[T]
end

-- The task types in the record of a pool; none if another client has written something else there.
local function types_of(text)
  local is_read, record = pcall(cjson.decode, text or '')
  local types, found = is_read and type(record) == 'table' and record.task_types, {}
  for _, T in ipairs(type(types) == 'table' and types or {}) do
    if type(T) == 'string' then found[#found + 1] = T end
  end
  return found
end

-- The hashes that have a field for each pool.
local of_pools = {'pools', 'started', 'leases', 'workers', 'beats', 'runs', 'live'}

-- Expects what forget_pool() writes to.
local function expect_pool(pool)
  for _, name in ipairs(of_pools) do expect('hash', P..name) end
  for _, name in ipairs({'stopping', 'locks', 'holders', 'held:'..pool}) do expect('set', P..name) end
  for _, T in ipairs(types_of(call('HGET', P..'pools', pool))) do expect('set', P..'waiting:'..T) end
end

-- Forgets the record of a pool, and what it told.
local function forget_pool(pool)
  for _, T in ipairs(types_of(call('HGET', P..'pools', pool))) do call('SREM', P..'waiting:'..T, pool) end
  for _, name in ipairs(of_pools) do call('HDEL', P..name, pool) end
  call('SREM', P..'stopping', pool); call('SREM', P..'locks', pool); call('DEL', P..'told:'..pool)
  if call('EXISTS', P..'held:'..pool) == 0 then call('SREM', P..'holders', pool) end
end

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
