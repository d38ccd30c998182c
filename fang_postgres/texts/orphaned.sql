--
WITH RECURSIVE holder(pool_id) AS
((SELECT fang.fang_tasks.pool_id AS pool_id
FROM fang.fang_tasks
WHERE fang.fang_tasks.state = 'in_progress' ORDER BY fang.fang_tasks.pool_id
 LIMIT 1) UNION ALL SELECT (SELECT fang.fang_tasks.pool_id
FROM fang.fang_tasks
WHERE fang.fang_tasks.state = 'in_progress' AND fang.fang_tasks.pool_id > holder.pool_id ORDER BY fang.fang_tasks.pool_id
 LIMIT 1) AS anon_1
FROM holder
WHERE holder.pool_id IS NOT NULL)
 SELECT holder.pool_id
FROM holder
WHERE holder.pool_id != ALL (array((SELECT fang.fang_pools.id
FROM fang.fang_pools)))
