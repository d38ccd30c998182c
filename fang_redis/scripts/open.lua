-- Notes the layout of the keys if there are none yet: its version -> {the version of those that are there}. It reads the
-- clock as nearly all scripts do, so that a user who lacks this right hears of it at once.
admit(); call('TIME')
call('HSETNX', P..'meta', 'layout', ARGV[1])
return {call('HGET', P..'meta', 'layout')}
