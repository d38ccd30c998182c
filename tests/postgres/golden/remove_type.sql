-- $1=p_task_type
WITH gone AS
(DELETE FROM fang.fang_tasks WHERE fang.fang_tasks.task_type = $1::VARCHAR RETURNING fang.fang_tasks.id)
 SELECT count(*) AS count
FROM gone
