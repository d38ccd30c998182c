-- Whether another pool waits for one of these tasks: pool, then types and kinds in turn -> 1 or 0.
local function has(list, value)
  for _, each in ipairs(list) do if each == value then return true end end
  return false
end
local records = {}
for i = 2, #ARGV, 2 do
  for _, other in ipairs(call('SMEMBERS', P..'waiting:'..ARGV[i])) do
    if other ~= ARGV[1] then
      local record = records[other] or call('HGET', P..'pools', other)
      if type(record) == 'string' then
        local is_read, read = pcall(cjson.decode, record)
        record = is_read and type(read) == 'table' and type(read.kinds) == 'table' and read or false
        records[other] = record
      end
      if record and has(record.kinds, ARGV[i + 1]) then return 1 end
    end
  end
end
return 0
