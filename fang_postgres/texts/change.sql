-- $1=p_error_message $2=p_state $3=p_revives $4=p_charge $5=p_delay $6=p_error_entry $7=p_id $8=p_read_state $9=p_read_attempt $10=p_read_updated_at $11=p_notify
WITH changed AS
(UPDATE fang.fang_tasks AS t SET error_message=coalesce($1::VARCHAR, t.error_message), state=CAST($2::VARCHAR AS fang.fang_task_state), retries=CASE WHEN $3::BOOLEAN THEN 0 ELSE t.retries + $4::INTEGER END, scheduled_at=CASE WHEN $3::BOOLEAN THEN greatest(coalesce(clock_timestamp() + $5::INTERVAL, t.scheduled_at), clock_timestamp()) ELSE coalesce(clock_timestamp() + $5::INTERVAL, t.scheduled_at) END, updated_at=clock_timestamp(), crashes=CASE WHEN $3::BOOLEAN THEN 0 ELSE t.crashes END, pool_id=NULL, claimed_at=NULL, errors=CASE WHEN ($6::VARCHAR IS NULL) THEN t.errors ELSE jsonb_path_query_array(t.errors || jsonb_build_array(CAST($6::VARCHAR AS JSONB) || jsonb_build_object('time', now())), '$[last - 9 to last]') END, expires_at=CASE WHEN $3::BOOLEAN THEN NULL ELSE t.expires_at END, cancel_request=CASE WHEN $3::BOOLEAN THEN NULL ELSE t.cancel_request END, group_limit=CASE WHEN $3::BOOLEAN THEN NULL ELSE t.group_limit END WHERE t.id = $7::UUID AND CAST(t.state AS TEXT) = $8::VARCHAR AND t.attempt = $9::BIGINT AND t.updated_at = $10::TIMESTAMP WITH TIME ZONE AND NOT ($3::BOOLEAN AND ((EXISTS (SELECT 1
FROM fang.fang_tasks AS twin
WHERE twin.uniq_hash = t.uniq_hash AND NOT (twin.state IN ('finished', 'failed', 'cancelled')))) OR (EXISTS (SELECT 1
FROM fang.fang_tasks AS twin
WHERE t.attempt = 0 AND twin.uniq_waiting = t.uniq_waiting AND twin.attempt = 0 AND NOT (twin.state IN ('finished', 'failed', 'cancelled')))))) RETURNING t.id, CAST(t.metadata AS TEXT) AS metadata, t.kind, t.task_type, CAST(t.state AS TEXT) AS state, t.priority, t.retries, t.max_retries, t.crashes, t.attempt, t.scheduled_at, t.created_at, t.updated_at, t.error_message, CAST(t.errors AS TEXT) AS errors, t.pool_id, CASE WHEN (t.claimed_at IS NOT NULL) THEN least(greatest(t.claimed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS claimed_at, t.uniq_hash, CAST(t.headers AS TEXT) AS headers, CASE WHEN (t.timeout IS NOT NULL) THEN least(greatest(t.timeout, '1 us'::interval), '36600 days'::interval) END AS timeout, CASE WHEN (t.expires_at IS NOT NULL) THEN least(greatest(t.expires_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS expires_at, CAST(t.cancel_request AS TEXT) AS cancel_request, t.group_limit, t.lane),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT changed.task_type AS task_type
FROM changed
WHERE changed.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $11::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT changed.task_type AS task_type, changed.priority AS priority, CAST(EXTRACT(epoch FROM min(changed.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM changed
WHERE CASE WHEN (changed.state IN ('new', 'retried')) THEN changed.scheduled_at END <= clock_timestamp() GROUP BY changed.task_type, changed.priority) AS passed
WHERE $11::BOOLEAN)
 SELECT changed.id, changed.metadata, changed.kind, changed.task_type, changed.state, changed.priority, changed.retries, changed.max_retries, changed.crashes, changed.attempt, changed.scheduled_at, changed.created_at, changed.updated_at, changed.error_message, changed.errors, changed.pool_id, changed.claimed_at, changed.uniq_hash, changed.headers, changed.timeout, changed.expires_at, changed.cancel_request, changed.group_limit, changed.lane, (SELECT count(woken.told) AS count_1
FROM woken) AS woken, CASE WHEN ($11::BOOLEAN AND $8::VARCHAR = 'in_progress' AND changed.lane IS NOT NULL) THEN pg_notify('fang_fang', concat(left(changed.task_type, 500), ',0,0')) END AS slot
FROM changed
