-- $1=p_id
WITH gone AS
(DELETE FROM fang.fang_tasks WHERE fang.fang_tasks.id = $1::UUID RETURNING fang.fang_tasks.id)
 SELECT count(*) AS count
FROM gone
