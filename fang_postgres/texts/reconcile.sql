-- $1=p_pool_id $2=p_ids $3=p_notify
WITH given_back AS
(UPDATE fang.fang_tasks AS t SET state=CAST(CASE WHEN (t.retries > 0 OR t.crashes > 0) THEN 'retried' ELSE 'new' END AS fang.fang_task_state), updated_at=now(), pool_id=NULL, claimed_at=NULL WHERE t.id = ANY (array((SELECT held.id
FROM fang.fang_tasks AS held
WHERE held.pool_id = $1::UUID AND held.state = 'in_progress' FOR NO KEY UPDATE OF held SKIP LOCKED))) AND t.pool_id = $1::UUID AND CAST(t.state AS TEXT) = 'in_progress' AND t.id != ALL ($2::UUID[]) RETURNING t.id, t.task_type, t.priority, t.scheduled_at),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT given_back.task_type AS task_type
FROM given_back
WHERE given_back.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $3::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT given_back.task_type AS task_type, given_back.priority AS priority, CAST(EXTRACT(epoch FROM min(given_back.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM given_back
WHERE given_back.scheduled_at <= clock_timestamp() GROUP BY given_back.task_type, given_back.priority) AS passed
WHERE $3::BOOLEAN)
 SELECT given_back.id, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM given_back
