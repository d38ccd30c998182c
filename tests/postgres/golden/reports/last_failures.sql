SELECT t.task_type, t.kind, t.id, t.updated_at, split_part(coalesce(t.error_message, ''), E'\n', 1) AS error
FROM fang.fang_tasks AS t
WHERE t.state = 'failed' ORDER BY t.updated_at DESC
 LIMIT 10
