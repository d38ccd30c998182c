-- $1=p_each
SELECT x.task_type, x.kind, x.pool_id, count(*) AS count_1, min(x.claimed_at) AS min_1, clock_timestamp() - min(x.claimed_at) AS anon_1
FROM (SELECT t.task_type AS task_type, t.kind AS kind, t.pool_id AS pool_id, CASE WHEN (t.claimed_at IS NOT NULL) THEN least(greatest(t.claimed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS claimed_at
FROM fang.fang_tasks AS t
WHERE t.state = 'in_progress' ORDER BY t.pool_id
 LIMIT $1::INTEGER) AS x GROUP BY x.task_type, x.kind, x.pool_id
