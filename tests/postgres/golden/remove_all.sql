--
WITH gone AS
(DELETE FROM fang.fang_tasks RETURNING fang.fang_tasks.id)
 SELECT count(*) AS count
FROM gone
