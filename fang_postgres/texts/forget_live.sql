--
DELETE FROM fang.fang_live WHERE fang.fang_live.pool_id != ALL (array((SELECT fang.fang_pools.id
FROM fang.fang_pools)))
