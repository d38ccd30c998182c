-- Reads the registered pools -> {id, record, when it was registered, number of workers, 1 if it stops, what it tells of
-- its runs, and of what it does now} of each; '' for what is not there.
local out, records = {}, call('HGETALL', P..'pools')
for i = 1, #records, 2 do
  local pool = records[i]
  local function field(name) return call('HGET', P..name, pool) or '' end
  out[#out + 1] = {pool, records[i + 1], field('started'), field('workers'), call('SISMEMBER', P..'stopping', pool),
    field('runs'), field('live')}
end
return out
