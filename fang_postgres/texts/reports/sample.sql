-- $1=p_percent
SELECT x.task_type, CAST(x.state AS TEXT) AS state, x.kind, count(*) AS count, count(*) FILTER (WHERE x.state IN ('new', 'retried') AND x.scheduled_at <= now()) AS due
FROM (SELECT t.task_type AS task_type, t.state AS state, t.kind AS kind, t.scheduled_at AS scheduled_at
FROM fang.fang_tasks AS t TABLESAMPLE system($1::FLOAT) REPEATABLE (0)) AS x GROUP BY x.task_type, x.state, x.kind
