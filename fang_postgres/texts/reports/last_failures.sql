--
WITH RECURSIVE types(task_type, number) AS
(SELECT (SELECT t.task_type
FROM fang.fang_tasks AS t
WHERE t.state = 'failed' ORDER BY t.task_type
 LIMIT 1) AS task_type, 1 AS number UNION ALL SELECT (SELECT later.task_type
FROM fang.fang_tasks AS later
WHERE later.state = 'failed' AND later.task_type > types.task_type ORDER BY later.task_type
 LIMIT 1) AS anon_1, types.number + 1 AS anon_2
FROM types
WHERE types.task_type IS NOT NULL AND types.number < 200)
 SELECT of_type.task_type, of_type.kind, of_type.id, of_type.updated_at, left(split_part(coalesce(of_type.error_message, ''), E'\n', 1), 200) AS error
FROM types JOIN LATERAL (SELECT t.task_type AS task_type, t.kind AS kind, t.id AS id, t.updated_at AS updated_at, t.error_message AS error_message
FROM fang.fang_tasks AS t
WHERE t.state = 'failed' AND t.task_type = types.task_type ORDER BY t.updated_at DESC
 LIMIT 10) AS of_type ON true ORDER BY of_type.updated_at DESC
 LIMIT 10
