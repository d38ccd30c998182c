-- $1=p_uniq_hash
WITH gone AS
(DELETE FROM fang.fang_tasks WHERE fang.fang_tasks.uniq_hash = $1::VARCHAR AND NOT (fang.fang_tasks.state IN ('finished', 'failed', 'cancelled')) RETURNING fang.fang_tasks.id)
 SELECT count(*) AS count
FROM gone
