--
WITH gone AS
(DELETE FROM fang.fang_tasks WHERE fang.fang_tasks.state = 'new' AND fang.fang_tasks.attempt = 0 AND fang.fang_tasks.scheduled_at > clock_timestamp() RETURNING fang.fang_tasks.id)
 SELECT count(*) AS count
FROM gone
