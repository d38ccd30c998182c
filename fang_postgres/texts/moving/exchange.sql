-- $1=p_ids $2=p_states $3=p_attempts $4=p_updated_at $5=p_task_types $6=p_due $7=p_headers $8=p_notify
WITH changed AS
(UPDATE fang.fang_tasks AS t SET task_type=given.task_type, scheduled_at=given.due, updated_at=clock_timestamp(), headers=CAST(given.headers AS JSONB), lane=coalesce(t.lane, CASE WHEN (given.task_type = ANY (array((SELECT fang.fang_types.task_type
FROM fang.fang_types)))) THEN '' END) FROM unnest($1::UUID[], $2::TEXT[], $3::BIGINT[], $4::TIMESTAMP WITH TIME ZONE[], $5::TEXT[], $6::TIMESTAMP WITH TIME ZONE[], $7::TEXT[]) AS given(id, state, attempt, updated_at, task_type, due, headers) WHERE t.id = given.id AND CAST(t.state AS TEXT) = given.state AND t.attempt = given.attempt AND t.updated_at = given.updated_at RETURNING t.id, t.task_type, t.priority, t.scheduled_at, t.kind),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT changed.task_type AS task_type
FROM changed
WHERE changed.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $8::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT changed.task_type AS task_type, changed.priority AS priority, CAST(EXTRACT(epoch FROM min(changed.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM changed
WHERE changed.scheduled_at <= clock_timestamp() GROUP BY changed.task_type, changed.priority) AS passed
WHERE $8::BOOLEAN)
 SELECT changed.id, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM changed
