-- $1=p_each
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
 SELECT x.task_type, CAST(x.state AS TEXT) AS state, x.kind, count(*) AS count, count(*) FILTER (WHERE x.state IN ('new', 'retried') AND x.scheduled_at <= now()) AS due
FROM types JOIN LATERAL (SELECT t.task_type AS task_type, t.state AS state, t.kind AS kind, t.scheduled_at AS scheduled_at
FROM fang.fang_tasks AS t
WHERE t.task_type = types.task_type AND t.state IN ('new', 'retried') ORDER BY t.task_type, t.priority, t.scheduled_at, t.id
 LIMIT $1::INTEGER) AS x ON true GROUP BY x.task_type, x.state, x.kind
