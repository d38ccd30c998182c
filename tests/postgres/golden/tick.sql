-- $1=p_id $2=p_metadata $3=p_task_type $4=p_priority $5=p_max_retries $6=p_uniq_hash $7=p_at $8=p_by_hand $9=p_name $10=p_notify
WITH moment AS
(SELECT $7::TIMESTAMP WITH TIME ZONE > clock_timestamp() AS is_ahead),
ahead AS
(INSERT INTO fang.fang_tasks (id, metadata, task_type, priority, max_retries, uniq_hash, scheduled_at) SELECT $1::UUID AS anon_1, CAST($2::VARCHAR AS JSONB) AS anon_2, $3::VARCHAR AS anon_3, $4::SMALLINT AS anon_4, $5::INTEGER AS anon_5, $6::VARCHAR AS anon_6, $7::TIMESTAMP WITH TIME ZONE AS anon_7
FROM moment
WHERE moment.is_ahead AND ($8::BOOLEAN OR NOT (EXISTS (SELECT 1
FROM fang.fang_schedules
WHERE fang.fang_schedules.name = $9::VARCHAR AND fang.fang_schedules.last_tick >= $7::TIMESTAMP WITH TIME ZONE))) ON CONFLICT DO NOTHING RETURNING fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at),
raised AS
(INSERT INTO fang.fang_schedules (name, last_tick) SELECT $9::VARCHAR AS anon_8, $7::TIMESTAMP WITH TIME ZONE AS anon_7
FROM moment
WHERE NOT moment.is_ahead OR (EXISTS (SELECT 1
FROM ahead)) OR (EXISTS (SELECT 1
FROM fang.fang_tasks
WHERE fang.fang_tasks.id = $1::UUID)) ON CONFLICT (name) DO UPDATE SET last_tick = excluded.last_tick WHERE fang.fang_schedules.last_tick < excluded.last_tick RETURNING fang.fang_schedules.name),
due AS
(INSERT INTO fang.fang_tasks (id, metadata, task_type, priority, max_retries, uniq_hash, scheduled_at) SELECT $1::UUID AS anon_1, CAST($2::VARCHAR AS JSONB) AS anon_2, $3::VARCHAR AS anon_3, $4::SMALLINT AS anon_4, $5::INTEGER AS anon_5, $6::VARCHAR AS anon_6, $7::TIMESTAMP WITH TIME ZONE AS anon_7
FROM moment
WHERE NOT moment.is_ahead AND (EXISTS (SELECT 1
FROM raised)) ON CONFLICT DO NOTHING RETURNING fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at),
inserted AS
(SELECT ahead.task_type AS task_type, ahead.priority AS priority, ahead.scheduled_at AS scheduled_at, ahead.created_at AS created_at
FROM ahead UNION ALL SELECT due.task_type AS task_type, due.priority AS priority, due.scheduled_at AS scheduled_at, due.created_at AS created_at
FROM due),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT inserted.task_type AS task_type
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $10::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT inserted.task_type AS task_type, inserted.priority AS priority, CAST(EXTRACT(epoch FROM min(inserted.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() GROUP BY inserted.task_type, inserted.priority) AS passed
WHERE $10::BOOLEAN)
 SELECT one.raised, inserted.scheduled_at, inserted.created_at, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM (SELECT EXISTS (SELECT 1
FROM raised) AS raised) AS one LEFT OUTER JOIN inserted ON true
