-- $1=p_id $2=p_metadata $3=p_task_type $4=p_priority $5=p_max_retries $6=p_timeout $7=p_headers $8=p_uniq_hash $9=p_lane $10=p_at $11=p_expires_at $12=p_expires $13=p_by_hand $14=p_name $15=p_notify
WITH moment AS
(SELECT $10::TIMESTAMP WITH TIME ZONE > clock_timestamp() AS is_ahead),
ahead AS
(INSERT INTO fang.fang_tasks (id, metadata, task_type, priority, max_retries, timeout, headers, uniq_hash, lane, scheduled_at, expires_at) SELECT $1::UUID AS anon_1, CAST($2::VARCHAR AS JSONB) AS anon_2, $3::VARCHAR AS anon_3, $4::SMALLINT AS anon_4, $5::INTEGER AS anon_5, $6::INTERVAL AS anon_6, CAST($7::VARCHAR AS JSONB) AS anon_7, $8::VARCHAR AS anon_8, coalesce($9::VARCHAR, CASE WHEN (EXISTS (SELECT 1
FROM fang.fang_types
WHERE fang.fang_types.task_type = $3::VARCHAR)) THEN '' END) AS coalesce_1, $10::TIMESTAMP WITH TIME ZONE AS anon_9, coalesce($11::TIMESTAMP WITH TIME ZONE, CASE WHEN (CAST($12::FLOAT AS DOUBLE PRECISION) IS NOT NULL) THEN least($10::TIMESTAMP WITH TIME ZONE + CAST($12::FLOAT AS DOUBLE PRECISION) * '1 s'::interval, '9999-12-29 00:00:00+00'::timestamptz) END) AS coalesce_2
FROM moment
WHERE moment.is_ahead AND ($13::BOOLEAN OR NOT (EXISTS (SELECT 1
FROM fang.fang_schedules
WHERE fang.fang_schedules.name = $14::VARCHAR AND fang.fang_schedules.last_tick >= $10::TIMESTAMP WITH TIME ZONE)) AND NOT (EXISTS (SELECT 1
FROM fang.fang_schedules
WHERE fang.fang_schedules.name = $14::VARCHAR AND NOT (fang.fang_schedules.kind IS NULL AND NOT (fang.fang_schedules.paused AND (fang.fang_schedules.paused_until IS NULL OR $10::TIMESTAMP WITH TIME ZONE < fang.fang_schedules.paused_until)))))) ON CONFLICT DO NOTHING RETURNING fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at, fang.fang_tasks.lane),
free AS
(SELECT fang.fang_schedules.name AS name
FROM fang.fang_schedules
WHERE fang.fang_schedules.name = $14::VARCHAR FOR NO KEY UPDATE SKIP LOCKED),
raised AS
(INSERT INTO fang.fang_schedules (name, last_tick) SELECT $14::VARCHAR AS anon_10, $10::TIMESTAMP WITH TIME ZONE AS anon_9
FROM moment
WHERE (NOT moment.is_ahead OR (EXISTS (SELECT 1
FROM ahead)) OR (EXISTS (SELECT 1
FROM fang.fang_tasks
WHERE fang.fang_tasks.id = $1::UUID))) AND ($13::BOOLEAN OR NOT (EXISTS (SELECT 1
FROM fang.fang_schedules
WHERE fang.fang_schedules.name = $14::VARCHAR)) OR (EXISTS (SELECT 1
FROM free))) ON CONFLICT (name) DO UPDATE SET last_tick = excluded.last_tick WHERE fang.fang_schedules.last_tick < excluded.last_tick AND ($13::BOOLEAN OR fang.fang_schedules.kind IS NULL AND NOT (fang.fang_schedules.paused AND (fang.fang_schedules.paused_until IS NULL OR $10::TIMESTAMP WITH TIME ZONE < fang.fang_schedules.paused_until))) RETURNING fang.fang_schedules.name),
due AS
(INSERT INTO fang.fang_tasks (id, metadata, task_type, priority, max_retries, timeout, headers, uniq_hash, lane, scheduled_at, expires_at) SELECT $1::UUID AS anon_1, CAST($2::VARCHAR AS JSONB) AS anon_2, $3::VARCHAR AS anon_3, $4::SMALLINT AS anon_4, $5::INTEGER AS anon_5, $6::INTERVAL AS anon_6, CAST($7::VARCHAR AS JSONB) AS anon_7, $8::VARCHAR AS anon_8, coalesce($9::VARCHAR, CASE WHEN (EXISTS (SELECT 1
FROM fang.fang_types
WHERE fang.fang_types.task_type = $3::VARCHAR)) THEN '' END) AS coalesce_1, $10::TIMESTAMP WITH TIME ZONE AS anon_9, coalesce($11::TIMESTAMP WITH TIME ZONE, CASE WHEN (CAST($12::FLOAT AS DOUBLE PRECISION) IS NOT NULL) THEN least($10::TIMESTAMP WITH TIME ZONE + CAST($12::FLOAT AS DOUBLE PRECISION) * '1 s'::interval, '9999-12-29 00:00:00+00'::timestamptz) END) AS coalesce_2
FROM moment
WHERE NOT moment.is_ahead AND (EXISTS (SELECT 1
FROM raised)) ON CONFLICT DO NOTHING RETURNING fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at, fang.fang_tasks.lane),
inserted AS
(SELECT ahead.task_type AS task_type, ahead.priority AS priority, ahead.scheduled_at AS scheduled_at, ahead.created_at AS created_at, ahead.lane AS lane
FROM ahead UNION ALL SELECT due.task_type AS task_type, due.priority AS priority, due.scheduled_at AS scheduled_at, due.created_at AS created_at, due.lane AS lane
FROM due),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT inserted.task_type AS task_type
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $15::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT inserted.task_type AS task_type, inserted.priority AS priority, CAST(EXTRACT(epoch FROM min(inserted.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() GROUP BY inserted.task_type, inserted.priority) AS passed
WHERE $15::BOOLEAN)
 SELECT one.raised, inserted.scheduled_at, inserted.created_at, inserted.lane, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM (SELECT CASE WHEN ($13::BOOLEAN OR NOT (EXISTS (SELECT 1
FROM fang.fang_schedules
WHERE fang.fang_schedules.name = $14::VARCHAR)) OR (EXISTS (SELECT 1
FROM free))) THEN EXISTS (SELECT 1
FROM raised) END AS raised) AS one LEFT OUTER JOIN inserted ON true
