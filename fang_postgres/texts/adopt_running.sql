-- $1=p_task_type
WITH adopted AS
(UPDATE fang.fang_tasks SET lane='' WHERE fang.fang_tasks.task_type = $1::VARCHAR AND fang.fang_tasks.state = 'in_progress' AND fang.fang_tasks.lane IS NULL RETURNING fang.fang_tasks.id)
 SELECT count(*) AS count
FROM adopted
