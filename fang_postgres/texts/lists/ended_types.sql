--
WITH RECURSIVE types_finished(task_type, number) AS
(SELECT (SELECT t.task_type
FROM fang.fang_tasks AS t
WHERE t.state = 'finished' ORDER BY t.task_type
 LIMIT 1) AS task_type, 1 AS number UNION ALL SELECT (SELECT later.task_type
FROM fang.fang_tasks AS later
WHERE later.state = 'finished' AND later.task_type > types_finished.task_type ORDER BY later.task_type
 LIMIT 1) AS anon_1, types_finished.number + 1 AS anon_2
FROM types_finished
WHERE types_finished.task_type IS NOT NULL AND types_finished.number < 200),
types_failed(task_type, number) AS
(SELECT (SELECT t.task_type
FROM fang.fang_tasks AS t
WHERE t.state = 'failed' ORDER BY t.task_type
 LIMIT 1) AS task_type, 1 AS number UNION ALL SELECT (SELECT later.task_type
FROM fang.fang_tasks AS later
WHERE later.state = 'failed' AND later.task_type > types_failed.task_type ORDER BY later.task_type
 LIMIT 1) AS anon_3, types_failed.number + 1 AS anon_4
FROM types_failed
WHERE types_failed.task_type IS NOT NULL AND types_failed.number < 200),
types_cancelled(task_type, number) AS
(SELECT (SELECT t.task_type
FROM fang.fang_tasks AS t
WHERE t.state = 'cancelled' ORDER BY t.task_type
 LIMIT 1) AS task_type, 1 AS number UNION ALL SELECT (SELECT later.task_type
FROM fang.fang_tasks AS later
WHERE later.state = 'cancelled' AND later.task_type > types_cancelled.task_type ORDER BY later.task_type
 LIMIT 1) AS anon_5, types_cancelled.number + 1 AS anon_6
FROM types_cancelled
WHERE types_cancelled.task_type IS NOT NULL AND types_cancelled.number < 200)
 SELECT 'finished' AS state, types_finished.task_type
FROM types_finished
WHERE types_finished.task_type IS NOT NULL UNION ALL SELECT 'failed' AS state, types_failed.task_type
FROM types_failed
WHERE types_failed.task_type IS NOT NULL UNION ALL SELECT 'cancelled' AS state, types_cancelled.task_type
FROM types_cancelled
WHERE types_cancelled.task_type IS NOT NULL
