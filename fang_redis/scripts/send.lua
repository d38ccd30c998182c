-- Leaves a message for a pool, and wakes its heart: pool, the message as JSON -> 1 if there is such a pool.
local pool = ARGV[1]
if call('HEXISTS', P..'pools', pool) == 0 then return 0 end
admit()
local number = add_to(P..'meta', 'messages', 1)
call('ZADD', P..'told:'..pool, number, number..' '..ARGV[2])
say('t'..pool); return 1
