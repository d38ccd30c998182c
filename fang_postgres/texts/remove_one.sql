-- $1=p_id $2=p_notify
WITH periods AS
(DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.task_id = $1::UUID),
gone AS
(DELETE FROM fang.fang_tasks WHERE fang.fang_tasks.id = $1::UUID RETURNING fang.fang_tasks.id, fang.fang_tasks.state, fang.fang_tasks.task_type, fang.fang_tasks.lane)
 SELECT (SELECT count(*) AS count_1
FROM gone) AS count, (SELECT count(CASE WHEN $2::BOOLEAN THEN pg_notify('fang_fang', concat(left(freed.task_type, 500), ',0,0')) END) AS count_2
FROM (SELECT DISTINCT gone.task_type AS task_type
FROM gone
WHERE gone.state = 'in_progress' AND gone.lane IS NOT NULL) AS freed) AS told
