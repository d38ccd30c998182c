-- $1=p_scheduled_at $2=p_delay $3=p_ids $4=p_metadata $5=p_task_types $6=p_priorities $7=p_max_retries $8=p_notify
WITH inserted AS
(INSERT INTO fang.fang_tasks (id, metadata, task_type, priority, max_retries, scheduled_at) SELECT new_task.id AS id, CAST(new_task.metadata AS JSONB) AS metadata, new_task.task_type AS task_type, new_task.priority AS priority, new_task.max_retries AS max_retries, coalesce($1::TIMESTAMP WITH TIME ZONE, (SELECT clock_timestamp() AS clock_timestamp_1) + coalesce($2::INTERVAL, CAST('0' AS INTERVAL))) AS due
FROM unnest(CAST(string_to_array($3::VARCHAR, E'\n', '') AS UUID[]), string_to_array($4::VARCHAR, E'\n', ''), $5::TEXT[], CAST(string_to_array($6::VARCHAR, E'\n', '') AS SMALLINT[]), CAST(string_to_array($7::VARCHAR, E'\n', '') AS INTEGER[])) AS new_task(id, metadata, task_type, priority, max_retries) RETURNING fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT inserted.task_type AS task_type
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $8::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT inserted.task_type AS task_type, inserted.priority AS priority, CAST(EXTRACT(epoch FROM min(inserted.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM inserted
WHERE $1::TIMESTAMP WITH TIME ZONE <= clock_timestamp() GROUP BY inserted.task_type, inserted.priority) AS passed
WHERE $8::BOOLEAN)
 SELECT max(inserted.scheduled_at) AS scheduled_at, max(inserted.created_at) AS created_at, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM inserted
