-- $1=p_id $2=p_attempt $3=p_pool_id
WITH done AS
(DELETE FROM fang.fang_tasks AS t WHERE t.id = $1::UUID AND t.attempt = $2::BIGINT AND t.pool_id = $3::UUID AND CAST(t.state AS TEXT) = 'in_progress' RETURNING t.id)
 SELECT CASE WHEN (counted.count = 1) THEN 1 ELSE CAST(concat('fang: this run no longer holds its task; rows: ', counted.count) AS INTEGER) END AS done
FROM (SELECT count(*) AS count
FROM done) AS counted
