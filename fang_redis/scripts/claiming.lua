-- Claims due tasks. ARGV: pool, limit, size of groups of suspects, 1 if tasks that were retried come first, the numbers of
-- types and of isolated kinds, 1 for any kind; then the types in turn, the isolated kinds, the known kinds. Returns
-- {now, 1 if the pool is registered, the managed types, then the id and the values of each task}.
local function claim(ARGV)
  local pool, limit, group_size, first_retried = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
  local types, any, isolated, kinds = tonumber(ARGV[5]), ARGV[7] == '1', {}, {}
  if call('HEXISTS', P..'beats', pool) == 0 then return {now, 0, {}} end
  for i = 8 + types, 7 + types + ARGV[6] do isolated[ARGV[i]] = true end
  for i = 8 + types + ARGV[6], #ARGV do kinds[ARGV[i]] = true end
  local managed, out, ids = {}, {now, 1, false}, {}

  -- The lines of a type that may be claimed from, in the order in which they are served: those of one number merge.
  local function orders(T)
    local of = {}
    for _, l in ipairs(any and levels_of(T) or levels_of_kinds(T, kinds)) do
      local p, mark, group, k = l:match('^(%d)([-rs])(%d*)[:=](.*)$')
      local most = p and math.max(1, tonumber(group) or 32767)
      local tried = p and (mark ~= 's' or (isolated[k] and most > 1) or most >= group_size)
      if tried and (any or kinds[k]) then
        local order = 2 * p + (first_retried and mark == '-' and 1 or 0)
        of[order] = of[order] or {}
        table.insert(of[order], line(T, l))
        of[order][line(T, l)] = l
      end
    end
    return of
  end

  local function earlier(a, b) if a[1] ~= b[1] then return a[1] < b[1] end return a[2] < b[2] end

  -- The first due tasks of some lines, at most this many, in order of time; each line's come first in it. Pages of all
  -- lines are merged up to where the first full one ends.
  local function first_of(keys, most)
    local due, counts = {}, {}
    if #keys == 1 then
      due = call('ZRANGE', keys[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
      return due, #due > 0 and {[keys[1]] = #due} or {}  -- ranks 0 to -1 would be all of them
    end
    local page = math.max(2, math.ceil(2 * most / #keys))
    while #due < most do
      local heads, horizon = {}, nil
      for _, key in ipairs(keys) do
        local r = call('ZRANGE', key, '-inf', now, 'BYSCORE', 'LIMIT', counts[key] or 0, page, 'WITHSCORES')
        for e = 1, #r, 2 do heads[#heads + 1] = {tonumber(r[e + 1]), r[e], key} end
        if #r == 2 * page then horizon = math.min(horizon or math.huge, tonumber(r[#r])) end
      end
      table.sort(heads, earlier)
      for _, head in ipairs(heads) do
        if #due == most or (horizon and head[1] > horizon) then break end
        due[#due + 1] = head[2]; counts[head[3]] = (counts[head[3]] or 0) + 1
      end
      if not horizon then break end
    end
    return due, counts
  end

  local function take(id, T)
    local v = claimed(id)
    if #v == 0 then  -- another client has put something else there
      if call('EXISTS', row(id)) == 1 then out[#out + 1] = id; out[#out + 1] = {} end
      return
    end
    if not v[14] and not v[1] and call('EXISTS', row(id)) == 0 then return end  -- or has removed it
    local lane, waiting = v[15], v[16]
    if has_key(lane) then pcall(leave_lane, id, T, whole(v[7], -2, 2, 0), lane) end  -- see mend.lua, if it stays there
    if waiting then call('HDEL', row(id), 'w'); free('unclaimed', waiting, id) end
    v[3] = format('%.0f', whole(v[3], 0, MOST_ATTEMPT, 0) + 1)
    call('HSET', row(id), 's', 'in_progress', 'a', v[3], 'P', pool, 'C', now, 'u', now)
    if v[14] ~= T then call('HSET', row(id), 'T', T) end  -- by which its run is counted when it ends
    count(T, lane, 1)
    ids[#ids + 1] = id; out[#out + 1] = id; out[#out + 1] = v
  end

  local function claim_from(T)
    if is_managed(T) then managed[#managed + 1] = T; return end
    local of = #ids < limit and orders(T) or {}
    for order = 0, 9 do
      local keys = of[order]
      if keys and #ids < limit then
        local due, counts = first_of(keys, limit - #ids)
        if #due > 0 then
          expect('set', P..'types'); expect('hash', P..'unclaimed')
          expect('set', P..'held:'..pool); expect('set', P..'holders')
        end
        for key, number in pairs(counts) do  -- the first write, which is let through when the memory is full
          call('ZREMRANGEBYRANK', key, 0, number - 1); sweep(T, keys[key])
        end
        for _, id in ipairs(due) do take(id, T) end
      end
    end
  end

  for i = 8, 7 + types do
    local is_done, problem = pcall(claim_from, ARGV[i])
    if not is_done then  -- what was claimed before is kept
      if #ids == 0 then error(problem, 0) end
      break
    end
  end
  if #ids > 0 then each('SADD', P..'held:'..pool, ids); call('SADD', P..'holders', pool) end
  settle(); out[3] = managed; return out
end
