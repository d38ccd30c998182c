-- Deletes tasks that ended long ago: the limit of each state; the ages of finished, failed and cancelled ones, '' for
-- those that stay; then types. Also ends periods that are over. Returns how many.
local limit, gone = tonumber(ARGV[1]), 0
for i, state in ipairs({'finished', 'failed', 'cancelled'}) do
  local age, left = ARGV[1 + i], limit
  if age ~= '' then
    for j = 5, #ARGV do
      local key = done_line(state, ARGV[j])
      expect('zset', key); expect('set', P..'ended'); expect('zset', P..'ids')
      local old = left > 0 and call('ZRANGE', key, '-inf', '('..plus(now_us, -age), 'BYSCORE', 'LIMIT', 0, left) or {}
      for _, id in ipairs(old) do call('ZREM', key, id); drop(id, true) end
      if #old > 0 then sweep_ended(ARGV[j]) end
      left = left - #old; gone = gone + #old
    end
  end
end
expect_periods()
for _, period in ipairs(call('ZRANGE', P..'period_ends', '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)) do
  local text = call('HGET', P..'periods', period)
  call('ZREM', P..'period_ends', period); call('HDEL', P..'periods', period)
  if text then call('HDEL', P..'period_of', text:match('^%S*')) end
  gone = gone + 1
end
settle(); return gone
