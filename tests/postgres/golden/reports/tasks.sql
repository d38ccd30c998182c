SELECT t.task_type, CAST(t.state AS TEXT) AS state, t.kind, count(*) AS count, count(*) FILTER (WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now()) AS due, count(*) FILTER (WHERE t.state = 'in_progress' AND t.pool_id IS NULL) AS unheld
FROM fang.fang_tasks AS t GROUP BY t.task_type, t.state, t.kind ORDER BY t.task_type, t.state, t.kind
