--
SELECT fang.fang_tasks.task_type, CAST(fang.fang_tasks.state AS TEXT) AS state, count(*) AS tasks
FROM fang.fang_tasks GROUP BY fang.fang_tasks.task_type, fang.fang_tasks.state
