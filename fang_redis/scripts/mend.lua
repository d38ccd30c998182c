-- Fails a task that stands among the waiting ones of a managed type though its row says otherwise, since another client
-- has written to one of them: no claim could ever start it. The type, the priority and the lane where it stands, its id,
-- and a message. Returns 0 if it is not so, 1 if it no longer stands there, 2 if it was failed, too.
local T, p, lane, id, message = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local v, found = look(id), {}
for _, l in ipairs(levels_of(T)) do
  if l:match('^%d') == tostring(p + 2) then
    local due = call('ZSCORE', line(T, l), id)
    if due then found[#found + 1] = {l, due} end
  end
end
local of_lane = lane ~= '' and call('ZSCORE', lane_line(T, p, lane), id)
if #found == 0 and not of_lane then return 0 end
local waits = v and (v.s == 'new' or v.s == 'retried') and v.T == T and v.p == p and (v.L or '') == lane
local is_there = #found == 1 and tonumber(found[1][2]) == tonumber(v and v.d or 0) and (lane == '' or of_lane == found[1][2])
if waits and is_there then return 0 end
expect('set', P..'types'); expect('zset', lanes_of(T, p))
if v then expect_indexes(v) end
expect('zset', done_line('failed', T)); expect('set', P..'ended')
admit()
for _, each in ipairs(found) do call('ZREM', line(T, each[1]), id); sweep(T, each[1]) end
if of_lane then leave_lane(id, T, p, lane) end
local fails = v and (v.is_odd or not terminal[v.s] and v.s ~= 'in_progress')
if fails then
  leave(id, v)
  v.s, v.T, v.u = 'failed', T, now
  call('HSET', row(id), 's', v.s, 'T', T, 'u', now, 'e', message)
  enter(id, v)
end
settle(); return fails and 2 or 1
