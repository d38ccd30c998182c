-- Notes the layout of the keys if there are none yet: its version -> {the version of those that are there}. It reads the
-- clock as nearly all scripts do, so that a user who lacks this right hears of it at once.
call('TIME')
if not call('HGET', P..'meta', 'layout') then  -- a user who may only read opens a queue that others have opened
  admit(); call('HSETNX', P..'meta', 'layout', ARGV[1])
end
return {call('HGET', P..'meta', 'layout')}
