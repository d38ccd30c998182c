-- Begins the periods of tasks that come from another queue, as they were there: id, the hash, when it was inserted, and
-- until when, 'inf' for ever, of each. One is left out if the period of another task with its hash lasts. Returns the ids
-- of the others.
expect_periods()
local begun = {}
for i = 1, #ARGV, 4 do
  local id, hash, inserted, till = unpack(ARGV, i, i + 3)
  local other, last = (call('HGET', P..'periods', hash) or ''):match('^(%S+) %S+ (%S+)$')
  if not other or other == id or (last ~= 'inf' and (tonumber(last) or 0) <= now_us) then
    if other then forget(other) end
    call('HSET', P..'periods', hash, id..' '..inserted..' '..till)
    call('HSET', P..'period_of', id, hash)
    if till ~= 'inf' then call('ZADD', P..'period_ends', till, hash) end
    begun[#begun + 1] = id
  end
end
return begun
