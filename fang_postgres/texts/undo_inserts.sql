-- $1=p_ids
WITH gone AS
(DELETE FROM fang.fang_tasks WHERE fang.fang_tasks.id = ANY (array((SELECT unnest($1::UUID[]) AS unnest_1))) AND fang.fang_tasks.attempt = 0 RETURNING fang.fang_tasks.id)
 DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.task_id = ANY (array((SELECT gone.id
FROM gone)))
