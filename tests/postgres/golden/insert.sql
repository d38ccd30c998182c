-- $1=p_id $2=p_metadata $3=p_task_type $4=p_uniq_hash $5=p_scheduled_at $6=p_delay $7=p_priority $8=p_max_retries $9=p_notify
WITH inserted AS
(INSERT INTO fang.fang_tasks (id, metadata, task_type, uniq_hash, scheduled_at, priority, max_retries) VALUES ($1::UUID, CAST($2::VARCHAR AS JSONB), $3::VARCHAR, $4::VARCHAR, coalesce($5::TIMESTAMP WITH TIME ZONE, (SELECT clock_timestamp() AS clock_timestamp_1) + coalesce($6::INTERVAL, CAST('0' AS INTERVAL))), $7::SMALLINT, $8::INTEGER) ON CONFLICT DO NOTHING RETURNING fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT inserted.task_type AS task_type
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $9::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT inserted.task_type AS task_type, inserted.priority AS priority, CAST(EXTRACT(epoch FROM min(inserted.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM inserted
WHERE $5::TIMESTAMP WITH TIME ZONE <= clock_timestamp() GROUP BY inserted.task_type, inserted.priority) AS passed
WHERE $9::BOOLEAN)
 SELECT inserted.scheduled_at, inserted.created_at, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM inserted
