-- $1=p_rows $2=p_notify
WITH inserted AS
(INSERT INTO fang.fang_tasks (id, metadata, task_type, state, priority, retries, max_retries, crashes, attempt, scheduled_at, created_at, error_message, errors, uniq_hash, headers, timeout, expires_at, cancel_request, group_limit, lane, uniq_waiting, updated_at) SELECT CAST(given.id AS UUID) AS id, CAST(given.metadata AS JSONB) AS metadata, CAST(given.task_type AS TEXT) AS task_type, CAST(given.state AS fang.fang_task_state) AS state, CAST(given.priority AS SMALLINT) AS priority, CAST(given.retries AS INTEGER) AS retries, CAST(given.max_retries AS INTEGER) AS max_retries, CAST(given.crashes AS SMALLINT) AS crashes, CAST(given.attempt AS BIGINT) AS attempt, CAST(given.scheduled_at AS TIMESTAMP WITH TIME ZONE) AS scheduled_at, CAST(given.created_at AS TIMESTAMP WITH TIME ZONE) AS created_at, CAST(given.error_message AS TEXT) AS error_message, CAST(given.errors AS JSONB) AS errors, CAST(given.uniq_hash AS TEXT) AS uniq_hash, CAST(given.headers AS JSONB) AS headers, CAST(given.timeout AS INTERVAL) AS timeout, CAST(given.expires_at AS TIMESTAMP WITH TIME ZONE) AS expires_at, CAST(given.cancel_request AS JSONB) AS cancel_request, CAST(given.group_limit AS SMALLINT) AS group_limit, coalesce(given.lane, CASE WHEN (given.task_type = ANY (array((SELECT fang.fang_types.task_type
FROM fang.fang_types)))) THEN '' END) AS coalesce_1, CAST(given.uniq_waiting AS TEXT) AS uniq_waiting, clock_timestamp() AS clock_timestamp_1
FROM jsonb_to_recordset(CAST($1::VARCHAR AS JSONB)) AS given(id UUID, metadata JSONB, task_type TEXT, state TEXT, priority SMALLINT, retries INTEGER, max_retries INTEGER, crashes SMALLINT, attempt BIGINT, scheduled_at TIMESTAMP WITH TIME ZONE, created_at TIMESTAMP WITH TIME ZONE, error_message TEXT, errors JSONB, uniq_hash TEXT, headers JSONB, timeout INTERVAL, expires_at TIMESTAMP WITH TIME ZONE, cancel_request JSONB, group_limit SMALLINT, lane TEXT COLLATE "C", uniq_waiting TEXT) ON CONFLICT DO NOTHING RETURNING fang.fang_tasks.id, fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.kind),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT inserted.task_type AS task_type
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $2::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT inserted.task_type AS task_type, inserted.priority AS priority, CAST(EXTRACT(epoch FROM min(inserted.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() GROUP BY inserted.task_type, inserted.priority) AS passed
WHERE $2::BOOLEAN)
 SELECT inserted.id, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM inserted
