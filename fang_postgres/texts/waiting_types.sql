-- $1=p_limit
WITH RECURSIVE found(task_type, priority, scheduled_at, step) AS
((SELECT fang.fang_tasks.task_type AS task_type, fang.fang_tasks.priority AS priority, fang.fang_tasks.scheduled_at AS scheduled_at, 1 AS step
FROM fang.fang_tasks
WHERE fang.fang_tasks.state IN ('new', 'retried') ORDER BY fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.id
 LIMIT 1) UNION ALL SELECT following.task_type AS task_type, following.priority AS priority, following.scheduled_at AS scheduled_at, found.step + 1 AS anon_1
FROM found JOIN LATERAL (SELECT fang.fang_tasks.task_type AS task_type, fang.fang_tasks.priority AS priority, fang.fang_tasks.scheduled_at AS scheduled_at
FROM fang.fang_tasks
WHERE fang.fang_tasks.state IN ('new', 'retried') AND (fang.fang_tasks.task_type, fang.fang_tasks.priority) > (found.task_type, found.priority) ORDER BY fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.id
 LIMIT 1) AS following ON true
WHERE found.step < $1::INTEGER)
 SELECT found.task_type, found.scheduled_at <= clock_timestamp() AS is_due
FROM found
