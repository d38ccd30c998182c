-- Reads which minutes and hours there are, from these seconds on, and which minutes are open -> {now, {minutes},
-- {hours}, {open}}.
local function since(name) return call('ZRANGE', P..name, ARGV[1], '+inf', 'BYSCORE') end
return {now, since('stats:60'), since('stats:3600'), call('ZRANGE', P..'stats:open', 0, -1)}
