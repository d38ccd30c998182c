-- $1=p_state $2=p_task_type
SELECT fang.fang_tasks.task_type
FROM fang.fang_tasks
WHERE fang.fang_tasks.state IN ('finished', 'failed', 'cancelled') AND fang.fang_tasks.state = CAST($1::VARCHAR AS fang.fang_task_state) AND fang.fang_tasks.task_type > $2::VARCHAR ORDER BY fang.fang_tasks.task_type
 LIMIT 1
