--
WITH RECURSIVE types(task_type, number) AS
(SELECT (SELECT t.task_type
FROM fang.fang_tasks AS t
WHERE t.state IN ('new', 'retried') ORDER BY t.task_type
 LIMIT 1) AS task_type, 1 AS number UNION ALL SELECT (SELECT later.task_type
FROM fang.fang_tasks AS later
WHERE later.state IN ('new', 'retried') AND later.task_type > types.task_type ORDER BY later.task_type
 LIMIT 1) AS anon_1, types.number + 1 AS anon_2
FROM types
WHERE types.task_type IS NOT NULL AND types.number < 200)
 SELECT DISTINCT ON (types.task_type) types.task_type, first.id, first.scheduled_at, now() - first.scheduled_at AS age
FROM types JOIN generate_series(-2, 2) AS lane(priority) ON true JOIN LATERAL (SELECT t.id AS id, t.scheduled_at AS scheduled_at
FROM fang.fang_tasks AS t
WHERE t.task_type = types.task_type AND t.priority = CAST(lane.priority AS SMALLINT) AND t.state IN ('new', 'retried') AND t.scheduled_at <= now() ORDER BY t.scheduled_at, t.id
 LIMIT 1) AS first ON true ORDER BY types.task_type, first.scheduled_at, first.id
