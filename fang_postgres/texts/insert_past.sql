-- $1=p_expires_at $2=p_ids $3=p_metadata $4=p_task_type $5=p_priority $6=p_max_retries $7=p_timeout $8=p_headers $9=p_uniq_hash $10=p_lanes $11=p_expires $12=p_dues $13=p_notify
WITH inserted AS
(INSERT INTO fang.fang_tasks (id, metadata, task_type, priority, max_retries, timeout, headers, uniq_hash, lane, scheduled_at, expires_at) SELECT new_task.id AS id, CAST(new_task.metadata AS JSONB) AS metadata, new_task.task_type AS task_type, new_task.priority AS priority, new_task.max_retries AS max_retries, new_task.timeout AS timeout, new_task.headers AS headers, new_task.uniq_hash AS uniq_hash, coalesce(new_task.lane, CASE WHEN (new_task.task_type = ANY (array((SELECT fang.fang_types.task_type
FROM fang.fang_types)))) THEN '' END) AS lane, new_task.scheduled_at AS scheduled_at, coalesce($1::TIMESTAMP WITH TIME ZONE, CASE WHEN (new_task.expires IS NOT NULL) THEN least(new_task.scheduled_at + new_task.expires * '1 s'::interval, '9999-12-29 00:00:00+00'::timestamptz) END) AS expires_at
FROM unnest(CAST(string_to_array($2::VARCHAR, E'\n', '') AS UUID[]), string_to_array($3::VARCHAR, E'\n', ''), $4::TEXT[], CAST(string_to_array($5::VARCHAR, E'\n', '') AS SMALLINT[]), CAST(string_to_array($6::VARCHAR, E'\n', '') AS INTEGER[]), CAST(string_to_array($7::VARCHAR, E'\n', '') AS INTERVAL[]), CAST(string_to_array($8::VARCHAR, E'\n', '') AS JSONB[]), string_to_array($9::VARCHAR, E'\n', ''), $10::TEXT[], CAST(string_to_array($11::VARCHAR, E'\n', '') AS DOUBLE PRECISION[]), $12::TIMESTAMP WITH TIME ZONE[]) AS new_task(id, metadata, task_type, priority, max_retries, timeout, headers, uniq_hash, lane, expires, scheduled_at) ON CONFLICT DO NOTHING RETURNING fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT inserted.task_type AS task_type
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $13::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT inserted.task_type AS task_type, inserted.priority AS priority, CAST(EXTRACT(epoch FROM min(inserted.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() GROUP BY inserted.task_type, inserted.priority) AS passed
WHERE $13::BOOLEAN)
 SELECT (SELECT count(*) AS count_1
FROM inserted) AS count, (SELECT count(woken.told) AS count_2
FROM woken) AS woken
