-- $1=p_limit $2=p_due_for
WITH RECURSIVE found(task_type, step) AS
((SELECT fang.fang_tasks.task_type AS task_type, 1 AS step
FROM fang.fang_tasks
WHERE fang.fang_tasks.state IN ('new', 'retried') ORDER BY fang.fang_tasks.task_type
 LIMIT 1) UNION ALL SELECT (SELECT fang.fang_tasks.task_type
FROM fang.fang_tasks
WHERE fang.fang_tasks.state IN ('new', 'retried') AND fang.fang_tasks.task_type > found.task_type ORDER BY fang.fang_tasks.task_type
 LIMIT 1) AS anon_1, found.step + 1 AS anon_2
FROM found
WHERE found.task_type IS NOT NULL AND found.step < $1::INTEGER)
 SELECT DISTINCT found.task_type
FROM found JOIN generate_series(-2, 2) AS lane(priority) ON true JOIN LATERAL (SELECT t.id AS id
FROM fang.fang_tasks AS t
WHERE t.task_type = found.task_type AND t.priority = CAST(lane.priority AS SMALLINT) AND t.state IN ('new', 'retried') AND t.scheduled_at <= now() - $2::INTERVAL ORDER BY t.scheduled_at, t.id
 LIMIT 1) AS due ON true
WHERE found.task_type != ALL (array((SELECT unnest(fang.fang_pools.task_types) AS unnest_1
FROM fang.fang_pools))) ORDER BY found.task_type
