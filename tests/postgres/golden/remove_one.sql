-- $1=p_id
WITH periods AS
(DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.task_id = $1::UUID),
gone AS
(DELETE FROM fang.fang_tasks WHERE fang.fang_tasks.id = $1::UUID RETURNING fang.fang_tasks.id)
 SELECT count(*) AS count
FROM gone
