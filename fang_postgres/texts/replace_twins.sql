-- $1=p_metadata $2=p_ids $3=p_task_type $4=p_scheduled_at $5=p_delay $6=p_priority $7=p_max_retries $8=p_headers $9=p_timeout $10=p_expires_at $11=p_expires $12=p_lanes $13=p_attempts $14=p_notify
WITH moment AS
(SELECT coalesce($4::TIMESTAMP WITH TIME ZONE, clock_timestamp() + coalesce($5::INTERVAL, CAST('0' AS INTERVAL))) AS due),
changed AS
(UPDATE fang.fang_tasks AS t SET metadata=CAST(($1::TEXT[])[width_bucket(t.id, $2::UUID[])] AS JSONB), task_type=(($3::TEXT[])[width_bucket(t.id, $2::UUID[])]), scheduled_at=CASE WHEN (t.attempt > 0) THEN greatest(t.scheduled_at, CASE WHEN ($4::TIMESTAMP WITH TIME ZONE IS NOT NULL OR $5::INTERVAL IS NOT NULL) THEN (SELECT moment.due
FROM moment) ELSE least(t.scheduled_at, (SELECT moment.due
FROM moment)) END) ELSE CASE WHEN ($4::TIMESTAMP WITH TIME ZONE IS NOT NULL OR $5::INTERVAL IS NOT NULL) THEN (SELECT moment.due
FROM moment) ELSE least(t.scheduled_at, (SELECT moment.due
FROM moment)) END END, updated_at=clock_timestamp(), priority=(($6::SMALLINT[])[width_bucket(t.id, $2::UUID[])]), max_retries=(($7::INTEGER[])[width_bucket(t.id, $2::UUID[])]), headers=CAST(($8::TEXT[])[width_bucket(t.id, $2::UUID[])] AS JSONB), timeout=(($9::INTERVAL[])[width_bucket(t.id, $2::UUID[])]), expires_at=coalesce($10::TIMESTAMP WITH TIME ZONE, CASE WHEN (($11::DOUBLE PRECISION[])[width_bucket(t.id, $2::UUID[])] IS NOT NULL) THEN least(greatest(CASE WHEN (t.attempt > 0) THEN greatest(t.scheduled_at, CASE WHEN ($4::TIMESTAMP WITH TIME ZONE IS NOT NULL OR $5::INTERVAL IS NOT NULL) THEN (SELECT moment.due
FROM moment) ELSE least(t.scheduled_at, (SELECT moment.due
FROM moment)) END) ELSE CASE WHEN ($4::TIMESTAMP WITH TIME ZONE IS NOT NULL OR $5::INTERVAL IS NOT NULL) THEN (SELECT moment.due
FROM moment) ELSE least(t.scheduled_at, (SELECT moment.due
FROM moment)) END END, (SELECT moment.due
FROM moment)) + ($11::DOUBLE PRECISION[])[width_bucket(t.id, $2::UUID[])] * '1 s'::interval, '9999-12-29 00:00:00+00'::timestamptz) END), lane=coalesce(($12::TEXT[])[width_bucket(t.id, $2::UUID[])], CASE WHEN (($3::TEXT[])[width_bucket(t.id, $2::UUID[])] = ANY (array((SELECT fang.fang_types.task_type
FROM fang.fang_types)))) THEN '' END) WHERE t.id = ANY (array((SELECT locked.id
FROM fang.fang_tasks AS locked
WHERE locked.id = ANY (array((SELECT unnest($2::UUID[]) AS unnest_1))) ORDER BY locked.id FOR NO KEY UPDATE))) AND ($2::UUID[])[width_bucket(t.id, $2::UUID[])] = t.id AND ($13::BIGINT[])[width_bucket(t.id, $2::UUID[])] = t.attempt AND CAST(t.state AS TEXT) IN ('new', 'retried') RETURNING t.id, CAST(t.metadata AS TEXT) AS metadata, t.kind, t.task_type, CAST(t.state AS TEXT) AS state, t.priority, t.retries, t.max_retries, t.crashes, t.attempt, t.scheduled_at, t.created_at, t.updated_at, t.error_message, CAST(t.errors AS TEXT) AS errors, t.pool_id, CASE WHEN (t.claimed_at IS NOT NULL) THEN least(greatest(t.claimed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS claimed_at, t.uniq_hash, CAST(t.headers AS TEXT) AS headers, CASE WHEN (t.timeout IS NOT NULL) THEN least(greatest(t.timeout, '1 us'::interval), '36600 days'::interval) END AS timeout, CASE WHEN (t.expires_at IS NOT NULL) THEN least(greatest(t.expires_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS expires_at, CAST(t.cancel_request AS TEXT) AS cancel_request, t.group_limit, t.lane),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT changed.task_type AS task_type
FROM changed
WHERE changed.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $14::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT changed.task_type AS task_type, changed.priority AS priority, CAST(EXTRACT(epoch FROM min(changed.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM changed
WHERE CASE WHEN (changed.state IN ('new', 'retried')) THEN changed.scheduled_at END <= clock_timestamp() GROUP BY changed.task_type, changed.priority) AS passed
WHERE $14::BOOLEAN)
 SELECT changed.id, changed.metadata, changed.kind, changed.task_type, changed.state, changed.priority, changed.retries, changed.max_retries, changed.crashes, changed.attempt, changed.scheduled_at, changed.created_at, changed.updated_at, changed.error_message, changed.errors, changed.pool_id, changed.claimed_at, changed.uniq_hash, changed.headers, changed.timeout, changed.expires_at, changed.cancel_request, changed.group_limit, changed.lane, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM changed
