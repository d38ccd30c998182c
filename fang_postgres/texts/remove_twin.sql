-- $1=p_uniq_hash $2=p_notify
WITH periods AS
(DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.hash = $1::VARCHAR),
gone AS
(DELETE FROM fang.fang_tasks AS t WHERE t.id = ANY (array((SELECT fang.fang_tasks.id
FROM fang.fang_tasks
WHERE fang.fang_tasks.uniq_hash = $1::VARCHAR AND NOT (fang.fang_tasks.state IN ('finished', 'failed', 'cancelled')) UNION ALL SELECT fang.fang_tasks.id
FROM fang.fang_tasks
WHERE fang.fang_tasks.uniq_waiting = $1::VARCHAR AND fang.fang_tasks.attempt = 0 AND NOT (fang.fang_tasks.state IN ('finished', 'failed', 'cancelled')) UNION ALL SELECT fang.fang_uniques.task_id
FROM fang.fang_uniques
WHERE fang.fang_uniques.hash = $1::VARCHAR))) AND NOT (t.state IN ('finished', 'failed', 'cancelled')) RETURNING t.id, t.state, t.task_type, t.lane)
 SELECT (SELECT count(*) AS count_1
FROM gone) AS count, (SELECT count(CASE WHEN $2::BOOLEAN THEN pg_notify('fang_fang', concat(left(freed.task_type, 500), ',0,0')) END) AS count_2
FROM (SELECT DISTINCT gone.task_type AS task_type
FROM gone
WHERE gone.state = 'in_progress' AND gone.lane IS NOT NULL) AS freed) AS told
