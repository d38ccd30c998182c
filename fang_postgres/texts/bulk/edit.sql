-- $1=p_metadata $2=p_sets_task_type $3=p_task_type $4=p_compared $5=p_scheduled_at $6=p_delay $7=p_sets_priority $8=p_priority $9=p_sets_max_retries $10=p_max_retries $11=p_sets_headers $12=p_headers $13=p_sets_timeout $14=p_timeout $15=p_sets_expires $16=p_expires_at $17=p_expires $18=p_lane $19=p_id $20=p_read_attempt $21=p_read_updated_at $22=p_notify
WITH changed AS
(UPDATE fang.fang_tasks AS t SET metadata=CAST($1::VARCHAR AS JSONB), task_type=CASE WHEN $2::BOOLEAN THEN $3::VARCHAR ELSE t.task_type END, uniq_hash=CASE WHEN (t.uniq_hash IS NOT NULL) THEN $4::VARCHAR END, scheduled_at=coalesce(coalesce($5::TIMESTAMP WITH TIME ZONE, clock_timestamp() + $6::INTERVAL), t.scheduled_at), updated_at=clock_timestamp(), priority=CASE WHEN $7::BOOLEAN THEN $8::SMALLINT ELSE t.priority END, max_retries=CASE WHEN $9::BOOLEAN THEN $10::INTEGER ELSE t.max_retries END, headers=CASE WHEN $11::BOOLEAN THEN CAST($12::VARCHAR AS JSONB) ELSE t.headers END, timeout=CASE WHEN $13::BOOLEAN THEN $14::INTERVAL ELSE t.timeout END, expires_at=CASE WHEN $15::BOOLEAN THEN coalesce($16::TIMESTAMP WITH TIME ZONE, CASE WHEN (CAST($17::FLOAT AS DOUBLE PRECISION) IS NOT NULL) THEN least(coalesce(coalesce($5::TIMESTAMP WITH TIME ZONE, clock_timestamp() + $6::INTERVAL), t.scheduled_at) + CAST($17::FLOAT AS DOUBLE PRECISION) * '1 s'::interval, '9999-12-29 00:00:00+00'::timestamptz) END) ELSE t.expires_at END, lane=coalesce($18::VARCHAR, CASE WHEN (CASE WHEN $2::BOOLEAN THEN $3::VARCHAR ELSE t.task_type END = ANY (array((SELECT fang.fang_types.task_type
FROM fang.fang_types)))) THEN '' END), uniq_waiting=CASE WHEN (t.uniq_waiting IS NOT NULL) THEN $4::VARCHAR END WHERE t.id = $19::UUID AND CAST(t.state AS TEXT) IN ('new', 'retried') AND t.attempt = $20::BIGINT AND t.updated_at = $21::TIMESTAMP WITH TIME ZONE AND NOT (t.uniq_hash IS NOT NULL AND (EXISTS (SELECT 1
FROM fang.fang_tasks AS twin
WHERE twin.uniq_hash = $4::VARCHAR AND NOT (twin.state IN ('finished', 'failed', 'cancelled')) AND twin.id != t.id)) OR t.uniq_waiting IS NOT NULL AND t.attempt = 0 AND (EXISTS (SELECT 1
FROM fang.fang_tasks AS twin
WHERE twin.uniq_waiting = $4::VARCHAR AND twin.attempt = 0 AND NOT (twin.state IN ('finished', 'failed', 'cancelled')) AND twin.id != t.id))) RETURNING t.id, CAST(t.metadata AS TEXT) AS metadata, t.kind, t.task_type, CAST(t.state AS TEXT) AS state, t.priority, t.retries, t.max_retries, t.crashes, t.attempt, t.scheduled_at, t.created_at, t.updated_at, t.error_message, CAST(t.errors AS TEXT) AS errors, t.pool_id, CASE WHEN (t.claimed_at IS NOT NULL) THEN least(greatest(t.claimed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS claimed_at, t.uniq_hash, CAST(t.headers AS TEXT) AS headers, CASE WHEN (t.timeout IS NOT NULL) THEN least(greatest(t.timeout, '1 us'::interval), '36600 days'::interval) END AS timeout, CASE WHEN (t.expires_at IS NOT NULL) THEN least(greatest(t.expires_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS expires_at, CAST(t.cancel_request AS TEXT) AS cancel_request, t.group_limit, t.lane),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT changed.task_type AS task_type
FROM changed
WHERE changed.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $22::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT changed.task_type AS task_type, changed.priority AS priority, CAST(EXTRACT(epoch FROM min(changed.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM changed
WHERE CASE WHEN (changed.state IN ('new', 'retried')) THEN changed.scheduled_at END <= clock_timestamp() GROUP BY changed.task_type, changed.priority) AS passed
WHERE $22::BOOLEAN)
 SELECT changed.id, changed.metadata, changed.kind, changed.task_type, changed.state, changed.priority, changed.retries, changed.max_retries, changed.crashes, changed.attempt, changed.scheduled_at, changed.created_at, changed.updated_at, changed.error_message, changed.errors, changed.pool_id, changed.claimed_at, changed.uniq_hash, changed.headers, changed.timeout, changed.expires_at, changed.cancel_request, changed.group_limit, changed.lane, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM changed
