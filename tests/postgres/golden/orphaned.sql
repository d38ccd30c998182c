--
SELECT DISTINCT fang.fang_tasks.pool_id
FROM fang.fang_tasks
WHERE fang.fang_tasks.state = 'in_progress' AND fang.fang_tasks.pool_id != ALL (array((SELECT fang.fang_pools.id
FROM fang.fang_pools)))
