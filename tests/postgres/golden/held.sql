-- $1=p_pool_id
SELECT count(*) AS count
FROM fang.fang_tasks
WHERE fang.fang_tasks.pool_id = $1::UUID AND fang.fang_tasks.state = 'in_progress'
