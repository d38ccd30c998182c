-- One sign of life of a pool, and what it is told: pool; 1 if it holds its lock; 1 if it stops; '=' and what it tells of
-- its runs, or ''; how many tasks it runs at once, or ''; the version of the layout; an epoch for a queue without one; how
-- many messages it has handled, and their numbers; then id and attempt of the tasks that it takes for its own.
-- Returns {whether it is registered, microseconds since all locks may have been let go, the epoch, pools, lost ids,
-- cancels, messages}.
local pool, locks, stops, runs, workers, version, epoch, handled = unpack(ARGV, 1, 8)
admit()

-- Another server than the last time means a restart or a failover; the data of a replica say so just as well.
local info = call('INFO', 'server')
local run, up = info:match('run_id:(%w+)'), info:match('uptime_in_seconds:(%d+)')
local known = call('HMGET', P..'meta', 'run', 'since')
if known[1] ~= run or not whole(known[2], FIRST_TIME, LAST_TIME) then
  known[2] = known[1] and now or plus(now_us, -1e6 * up)
  call('HSET', P..'meta', 'run', run, 'since', known[2])
end
if call('HSETNX', P..'meta', 'epoch', epoch) == 1 then call('HSET', P..'meta', 'layout', version) end
local out = {0, format('%.0f', math.max(0, now_us - known[2])), call('HGET', P..'meta', 'epoch'), {}, {}, {}, {}}

if call('HEXISTS', P..'beats', pool) == 1 then
  out[1] = 1
  add_to(P..'beats', pool, 1)
  call(locks == '1' and 'SADD' or 'SREM', P..'locks', pool)
  call(stops == '1' and 'SADD' or 'SREM', P..'stopping', pool)
  if runs ~= '' then call('HSET', P..'runs', pool, runs:sub(2)) end
  if workers ~= '' then call('HSET', P..'workers', pool, workers) end
  for i = 9, 8 + handled do call('ZREMRANGEBYSCORE', P..'told:'..pool, ARGV[i], ARGV[i]) end
  local told = call('ZRANGE', P..'told:'..pool, 0, 99, 'WITHSCORES')
  for i = 1, #told, 2 do
    if told[i + 1]:find('^%d+$') then table.insert(out[7], told[i + 1]); table.insert(out[7], told[i])
    else call('ZREM', P..'told:'..pool, told[i]) end  -- none of ours
  end
  for i = 9 + handled, #ARGV, 2 do
    local v = fields_of(ARGV[i], 'a', 'P', 's', 'q')
    if v[1] ~= ARGV[i + 1] or v[2] ~= pool or v[3] ~= 'in_progress' then table.insert(out[5], ARGV[i])
    elseif v[4] then table.insert(out[6], ARGV[i]); table.insert(out[6], v[4]) end
  end
end

local beats, leases = call('HGETALL', P..'beats'), call('HGETALL', P..'leases')
local claims, lease_of, channels, listeners = {}, {}, {}, {}
for _, each in ipairs(call('SMEMBERS', P..'locks')) do claims[each] = 1 end
for i = 1, #leases, 2 do lease_of[leases[i]] = leases[i + 1] end
for i = 1, #beats, 2 do channels[#channels + 1] = P..'alive:'..beats[i] end
for i = 1, #channels, 1000 do
  local counted = call('PUBSUB', 'NUMSUB', unpack(channels, i, math.min(i + 999, #channels)))
  for j = 1, #counted, 2 do listeners[#listeners + 1] = counted[j + 1] end
end
for i = 1, #beats, 2 do
  local each = beats[i]
  for _, value in ipairs({each, beats[i + 1], claims[each] or 0, listeners[(i + 1) / 2], lease_of[each] or ''}) do
    table.insert(out[4], value)
  end
end
return out
