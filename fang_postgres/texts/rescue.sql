-- $1=p_charged $2=p_isolated_kinds $3=p_pool_id $4=p_max_crashes $5=p_notify
WITH holding AS
(SELECT count(*) AS count, count(*) = 1 AS one, array_agg(other.id) FILTER (WHERE other.crashes >= 2) AS suspects, array_agg(other.id) FILTER (WHERE other.crashes >= 2 AND other.kind = ANY ($2::TEXT[]) AND coalesce(other.group_limit, 32767) > 1) AS apart, coalesce((SELECT nullif(p.workers, 0) AS nullif_1
FROM fang.fang_pools AS p
WHERE p.id = $3::UUID), count(*)) AS tried
FROM fang.fang_tasks AS other
WHERE other.pool_id = $3::UUID AND other.state = 'in_progress'),
rescued AS
(UPDATE fang.fang_tasks AS t SET error_message=CASE WHEN ($1::BOOLEAN AND (t.crashes < 2 OR (SELECT holding.one
FROM holding) AND NOT (t.crashes >= 2 AND t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1))) THEN concat('crashed: the process of its worker died under it, ', least(t.crashes + 1, 32767), ' of ', $4::INTEGER, ' times') ELSE t.error_message END, state=CAST(CASE WHEN ($1::BOOLEAN AND (t.crashes < 2 OR (SELECT holding.one
FROM holding) AND NOT (t.crashes >= 2 AND t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1)) AND least(t.crashes + 1, 32767) >= $4::INTEGER) THEN 'failed' ELSE CASE WHEN ($1::BOOLEAN AND (t.crashes < 2 OR (SELECT holding.one
FROM holding) AND NOT (t.crashes >= 2 AND t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1)) OR t.retries > 0 OR t.crashes > 0) THEN 'retried' ELSE 'new' END END AS fang.fang_task_state), scheduled_at=CASE WHEN ($1::BOOLEAN AND (t.crashes < 2 OR (SELECT holding.one
FROM holding) AND NOT (t.crashes >= 2 AND t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1)) AND (SELECT holding.one
FROM holding) AND least(t.crashes + 1, 32767) >= 2) THEN clock_timestamp() + power(2, least(least(t.crashes + 1, 32767), 10)) * CAST('1 s' AS INTERVAL) ELSE t.scheduled_at END, updated_at=now(), crashes=CASE WHEN ($1::BOOLEAN AND (t.crashes < 2 OR (SELECT holding.one
FROM holding) AND NOT (t.crashes >= 2 AND t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1))) THEN least(t.crashes + 1, 32767) ELSE t.crashes END, pool_id=NULL, claimed_at=NULL, errors=CASE WHEN ($1::BOOLEAN AND (t.crashes < 2 OR (SELECT holding.one
FROM holding) AND NOT (t.crashes >= 2 AND t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1))) THEN CASE WHEN (CAST(jsonb_build_object('number', t.attempt, 'error', concat('crashed: the process of its worker died under it, ', least(t.crashes + 1, 32767), ' of ', $4::INTEGER, ' times'), 'traceback', NULL) AS TEXT) IS NULL) THEN t.errors ELSE jsonb_path_query_array(t.errors || jsonb_build_array(CAST(CAST(jsonb_build_object('number', t.attempt, 'error', concat('crashed: the process of its worker died under it, ', least(t.crashes + 1, 32767), ' of ', $4::INTEGER, ' times'), 'traceback', NULL) AS TEXT) AS JSONB) || jsonb_build_object('time', now())), '$[last - 9 to last]') END ELSE t.errors END, group_limit=CASE WHEN ($1::BOOLEAN AND (t.crashes < 2 OR (SELECT holding.one
FROM holding) AND NOT (t.crashes >= 2 AND t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1)) AND (SELECT holding.one
FROM holding) AND least(t.crashes + 1, 32767) >= 2 AND NOT (t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1)) THEN 1 WHEN ($1::BOOLEAN AND (t.crashes < 2 OR (SELECT holding.one
FROM holding) AND NOT (t.crashes >= 2 AND t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1))) THEN NULL WHEN ($1::BOOLEAN AND NOT ($1::BOOLEAN AND (t.crashes < 2 OR (SELECT holding.one
FROM holding) AND NOT (t.crashes >= 2 AND t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1)))) THEN greatest(least(coalesce(t.group_limit, 32767), CASE WHEN (NOT (t.crashes >= 2 AND t.kind = ANY ($2::TEXT[]) AND coalesce(t.group_limit, 32767) > 1)) THEN (SELECT holding.tried
FROM holding) END) / 2, 1) ELSE t.group_limit END WHERE t.id = ANY (array((SELECT held.id
FROM fang.fang_tasks AS held
WHERE held.pool_id = $3::UUID AND held.state = 'in_progress' FOR NO KEY UPDATE OF held SKIP LOCKED))) AND t.pool_id = $3::UUID AND CAST(t.state AS TEXT) = 'in_progress' RETURNING t.id, t.kind, t.attempt, t.crashes, CAST(t.state AS TEXT) AS state, t.task_type, t.priority, t.scheduled_at),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT rescued.task_type AS task_type
FROM rescued
WHERE rescued.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $5::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT rescued.task_type AS task_type, rescued.priority AS priority, CAST(EXTRACT(epoch FROM min(rescued.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM rescued
WHERE CASE WHEN (rescued.state IN ('new', 'retried')) THEN rescued.scheduled_at END <= clock_timestamp() GROUP BY rescued.task_type, rescued.priority) AS passed
WHERE $5::BOOLEAN)
 SELECT holding.count, rescued.id, rescued.kind, rescued.attempt, rescued.crashes, rescued.state, rescued.task_type, $1::BOOLEAN AND NOT (coalesce(rescued.id = ANY (holding.suspects), false) AND (NOT holding.one OR coalesce(rescued.id = ANY (holding.apart), false))) AS charged, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM holding LEFT OUTER JOIN rescued ON true
