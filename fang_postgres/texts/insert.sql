-- $1=p_id $2=p_metadata $3=p_task_type $4=p_uniq_hash $5=p_scheduled_at $6=p_delay $7=p_priority $8=p_max_retries $9=p_headers $10=p_timeout $11=p_expires_at $12=p_expires $13=p_lane $14=p_notify $15=p_kind
WITH moment AS
(SELECT coalesce($5::TIMESTAMP WITH TIME ZONE, clock_timestamp() + coalesce($6::INTERVAL, CAST('0' AS INTERVAL))) AS due)
 INSERT INTO fang.fang_tasks (id, metadata, task_type, uniq_hash, scheduled_at, priority, max_retries, headers, timeout, expires_at, lane) VALUES ($1::UUID, CAST($2::VARCHAR AS JSONB), $3::VARCHAR, $4::VARCHAR, (SELECT moment.due
FROM moment), $7::SMALLINT, $8::INTEGER, CAST($9::VARCHAR AS JSONB), $10::INTERVAL, coalesce($11::TIMESTAMP WITH TIME ZONE, CASE WHEN (CAST($12::FLOAT AS DOUBLE PRECISION) IS NOT NULL) THEN least((SELECT moment.due
FROM moment) + CAST($12::FLOAT AS DOUBLE PRECISION) * '1 s'::interval, '9999-12-29 00:00:00+00'::timestamptz) END), coalesce($13::VARCHAR, CASE WHEN (EXISTS (SELECT 1
FROM fang.fang_types
WHERE fang.fang_types.task_type = $3::VARCHAR)) THEN '' END)) ON CONFLICT DO NOTHING RETURNING fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at, fang.fang_tasks.lane, CASE WHEN ($14::BOOLEAN AND fang.fang_tasks.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL) AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND $3::VARCHAR = ANY (p.task_types) AND ($15::VARCHAR = ANY (p.kinds) OR NOT (EXISTS (SELECT 1
FROM fang.fang_pools AS knowing
WHERE $3::VARCHAR = ANY (knowing.task_types) AND $15::VARCHAR = ANY (knowing.kinds))))))) THEN pg_notify('fang_fang', left(fang.fang_tasks.task_type, 500)) END AS woken, CASE WHEN ($14::BOOLEAN AND $5::TIMESTAMP WITH TIME ZONE <= clock_timestamp()) THEN pg_notify('fang_fang', concat_ws(',', left(fang.fang_tasks.task_type, 500), fang.fang_tasks.priority, CAST(EXTRACT(epoch FROM fang.fang_tasks.scheduled_at) * 1000000 AS BIGINT))) END AS passed
