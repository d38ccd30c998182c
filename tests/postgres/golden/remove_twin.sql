-- $1=p_uniq_hash
WITH periods AS
(DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.hash = $1::VARCHAR),
gone AS
(DELETE FROM fang.fang_tasks AS t WHERE t.id = ANY (array((SELECT fang.fang_tasks.id
FROM fang.fang_tasks
WHERE fang.fang_tasks.uniq_hash = $1::VARCHAR AND NOT (fang.fang_tasks.state IN ('finished', 'failed', 'cancelled')) UNION ALL SELECT fang.fang_tasks.id
FROM fang.fang_tasks
WHERE fang.fang_tasks.uniq_waiting = $1::VARCHAR AND fang.fang_tasks.attempt = 0 AND NOT (fang.fang_tasks.state IN ('finished', 'failed', 'cancelled')) UNION ALL SELECT fang.fang_uniques.task_id
FROM fang.fang_uniques
WHERE fang.fang_uniques.hash = $1::VARCHAR))) AND NOT (t.state IN ('finished', 'failed', 'cancelled')) RETURNING t.id)
 SELECT count(*) AS count
FROM gone
