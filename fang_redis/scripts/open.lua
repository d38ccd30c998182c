-- Notes the layout of the keys if there are none yet: its version -> {the version of those that are there}.
call('HDEL', P..'meta', '-')  -- the first write is one that a full memory lets through
call('HSETNX', P..'meta', 'layout', ARGV[1])
return {call('HGET', P..'meta', 'layout')}
