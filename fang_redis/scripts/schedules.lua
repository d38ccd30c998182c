-- Reads all schedules -> {now, {JSON of each}}.
return {now, call('HVALS', P..'schedules')}
