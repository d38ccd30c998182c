-- $1=p_id $2=p_metadata $3=p_task_type $4=p_priority $5=p_max_retries $6=p_uniq_hash $7=p_at $8=p_name $9=p_notify
WITH raised AS
(INSERT INTO fang.fang_schedules (name, last_tick) VALUES ($8::VARCHAR, $7::TIMESTAMP WITH TIME ZONE) ON CONFLICT (name) DO UPDATE SET last_tick = excluded.last_tick WHERE fang.fang_schedules.last_tick < excluded.last_tick RETURNING fang.fang_schedules.name),
inserted AS
(INSERT INTO fang.fang_tasks (id, metadata, task_type, priority, max_retries, uniq_hash, scheduled_at) SELECT $1::UUID AS anon_1, CAST($2::VARCHAR AS JSONB) AS anon_2, $3::VARCHAR AS anon_3, $4::SMALLINT AS anon_4, $5::INTEGER AS anon_5, $6::VARCHAR AS anon_6, $7::TIMESTAMP WITH TIME ZONE AS anon_7
WHERE (EXISTS (SELECT 1
FROM raised)) OR $7::TIMESTAMP WITH TIME ZONE > clock_timestamp() ON CONFLICT DO NOTHING RETURNING fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at),
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
WHERE inserted.scheduled_at <= clock_timestamp() GROUP BY inserted.task_type, inserted.priority) AS passed
WHERE $9::BOOLEAN)
 SELECT one.raised, inserted.scheduled_at, inserted.created_at, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM (SELECT EXISTS (SELECT 1
FROM raised) AS raised) AS one LEFT OUTER JOIN inserted ON true
