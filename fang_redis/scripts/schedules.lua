-- Reads all schedules -> {now, {name and JSON of each}}.
return {now, call('HGETALL', P..'schedules')}
