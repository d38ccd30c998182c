-- Reads a schedule: its name, and the id of a task of its, or ''. Returns {its row as JSON or '', what read.lua returns
-- of that task and of the task of its last tick}.
local text, out = call('HGET', P..'schedules', ARGV[1]), {now}
local is_read, schedule = pcall(cjson.decode, text or '')
local ids = {ARGV[2], is_read and type(schedule) == 'table' and schedule.last_task_id or nil}
for _, id in pairs(ids) do
  local fields = type(id) == 'string' and id ~= '' and hash_of(id) or {}
  if #fields > 0 then out[#out + 1] = {id, fields, entries_of(id)} end
end
return {text or '', out}
