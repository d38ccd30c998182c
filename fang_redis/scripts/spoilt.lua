-- Fails tasks that a pool holds and cannot read, since another client has written to them: pool, then id and message of
-- each. Returns the ids of those that were failed: no script can, if there is no hash any more.
local failed = {}
for i = 2, #ARGV, 2 do
  local id, v = ARGV[i], look(ARGV[i])
  if v and v.s == 'in_progress' and v.P == ARGV[1] then
    expect_indexes(v); expect('zset', done_line('failed', v.T)); expect('set', P..'ended')
    leave(id, v)
    v.s, v.u = 'failed', now
    call('HDEL', row(id), 'P', 'C'); call('HSET', row(id), 's', v.s, 'u', now, 'e', ARGV[i + 1])
    enter(id, v); failed[#failed + 1] = id
  end
end
settle(); return failed
