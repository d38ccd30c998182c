-- $1=p_each
WITH RECURSIVE types(task_type, number) AS
(SELECT (SELECT t.task_type
FROM fang.fang_tasks AS t
WHERE t.state IN ('new', 'retried') ORDER BY t.task_type
 LIMIT 1) AS task_type, 1 AS number UNION ALL SELECT (SELECT later.task_type
FROM fang.fang_tasks AS later
WHERE later.state IN ('new', 'retried') AND later.task_type > types.task_type ORDER BY later.task_type
 LIMIT 1) AS anon_2, types.number + 1 AS anon_3
FROM types
WHERE types.task_type IS NOT NULL AND types.number < 200)
 SELECT x.task_type, x.kind, count(*) AS count_1, min(x.scheduled_at) AS min_1, (array_agg(left(split_part(coalesce(x.error_message, ''), E'\n', 1), 200) ORDER BY x.updated_at DESC))[1] AS anon_1
FROM types JOIN generate_series(-2, 2) AS lane(priority) ON true JOIN LATERAL (SELECT due.state AS state, due.task_type AS task_type, due.kind AS kind, due.scheduled_at AS scheduled_at, due.updated_at AS updated_at, due.error_message AS error_message
FROM (SELECT t.state AS state, t.task_type AS task_type, t.kind AS kind, t.scheduled_at AS scheduled_at, t.updated_at AS updated_at, t.error_message AS error_message
FROM fang.fang_tasks AS t
WHERE t.task_type = types.task_type AND t.priority = CAST(lane.priority AS SMALLINT) AND t.state IN ('new', 'retried') AND t.scheduled_at <= now() ORDER BY t.scheduled_at, t.id
 LIMIT $1::INTEGER) AS due UNION ALL SELECT later.state AS state, later.task_type AS task_type, later.kind AS kind, later.scheduled_at AS scheduled_at, later.updated_at AS updated_at, later.error_message AS error_message
FROM (SELECT t.state AS state, t.task_type AS task_type, t.kind AS kind, t.scheduled_at AS scheduled_at, t.updated_at AS updated_at, t.error_message AS error_message
FROM fang.fang_tasks AS t
WHERE t.task_type = types.task_type AND t.priority = CAST(lane.priority AS SMALLINT) AND t.state IN ('new', 'retried') AND t.scheduled_at > now() ORDER BY t.scheduled_at, t.id
 LIMIT $1::INTEGER) AS later) AS x ON true
WHERE x.state = 'retried' GROUP BY x.task_type, x.kind ORDER BY x.task_type, x.kind
