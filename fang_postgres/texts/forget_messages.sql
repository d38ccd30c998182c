--
DELETE FROM fang.fang_messages WHERE fang.fang_messages.pool_id != ALL (array((SELECT fang.fang_pools.id
FROM fang.fang_pools)))
