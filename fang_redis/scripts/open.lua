-- Notes the layout of the keys if there are none yet: its version -> {the version of those that are there}.
admit()
call('HSETNX', P..'meta', 'layout', ARGV[1])
return {call('HGET', P..'meta', 'layout')}
