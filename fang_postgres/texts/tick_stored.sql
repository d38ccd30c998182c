-- $1=p_at $2=p_uniq_hash $3=p_name $4=p_changed_at $5=p_id $6=p_metadata $7=p_task_type $8=p_priority $9=p_max_retries $10=p_timeout $11=p_headers $12=p_lane $13=p_due $14=p_expires_at $15=p_expires $16=p_notify $17=p_reason $18=p_by
WITH moment AS MATERIALIZED
(SELECT clock_timestamp() AS now),
read AS MATERIALIZED
(SELECT fang.fang_schedules.last_tick AS last_tick, fang.fang_schedules.last_task_id AS last_task_id, fang.fang_schedules.overlap AS overlap, fang.fang_schedules.missed_within AS missed_within, fang.fang_schedules.pause_on_failure AS pause_on_failure, (SELECT CAST(fang.fang_tasks.state AS TEXT) AS state
FROM fang.fang_tasks
WHERE fang.fang_tasks.id = fang.fang_schedules.last_task_id) AS state, EXISTS (SELECT 1
FROM fang.fang_tasks AS twin
WHERE twin.uniq_hash = $2::VARCHAR AND NOT (twin.state IN ('finished', 'failed', 'cancelled'))) AS has_twin, moment.now AS now
FROM fang.fang_schedules JOIN moment ON true
WHERE fang.fang_schedules.name = $3::VARCHAR AND fang.fang_schedules.kind IS NOT NULL AND CASE WHEN (fang.fang_schedules.changed_at IS NOT NULL) THEN least(greatest(fang.fang_schedules.changed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END IS NOT DISTINCT FROM $4::TIMESTAMP WITH TIME ZONE AND NOT (fang.fang_schedules.paused AND (fang.fang_schedules.paused_until IS NULL OR $1::TIMESTAMP WITH TIME ZONE < fang.fang_schedules.paused_until)) AND moment.now >= $1::TIMESTAMP WITH TIME ZONE),
seen AS MATERIALIZED
(SELECT read.last_tick AS last_tick, read.last_task_id AS last_task_id, read.overlap AS overlap, read.missed_within AS missed_within, read.pause_on_failure AS pause_on_failure, read.state AS state, read.has_twin AS has_twin, read.now AS now, CASE WHEN (read.last_tick >= $1::TIMESTAMP WITH TIME ZONE) THEN 'done' WHEN (read.now - $1::TIMESTAMP WITH TIME ZONE > read.missed_within) THEN 'late' WHEN (read.pause_on_failure AND read.state = 'failed') THEN 'paused' WHEN (read.overlap = 'skip' AND (read.state IN ('new', 'retried') OR read.state = 'in_progress') OR read.overlap = 'queue_one' AND read.state IN ('new', 'retried')) THEN 'skipped' WHEN (read.overlap = 'queue_one' AND read.state = 'in_progress') THEN 'waits' ELSE 'ticked' END AS verdict
FROM read),
held AS MATERIALIZED
(SELECT fang.fang_schedules.name AS name
FROM fang.fang_schedules
WHERE fang.fang_schedules.name = $3::VARCHAR AND CASE WHEN (fang.fang_schedules.changed_at IS NOT NULL) THEN least(greatest(fang.fang_schedules.changed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END IS NOT DISTINCT FROM $4::TIMESTAMP WITH TIME ZONE AND fang.fang_schedules.last_tick = (SELECT seen.last_tick
FROM seen) AND (SELECT seen.verdict
FROM seen) IN ('ticked', 'skipped', 'paused') FOR NO KEY UPDATE SKIP LOCKED),
raised AS
(UPDATE fang.fang_schedules SET last_tick=CASE WHEN ((SELECT seen.verdict
FROM seen) = 'paused') THEN fang.fang_schedules.last_tick ELSE $1::TIMESTAMP WITH TIME ZONE END, paused=(fang.fang_schedules.paused OR (SELECT seen.verdict
FROM seen) = 'paused'), paused_until=CASE WHEN ((SELECT seen.verdict
FROM seen) = 'paused') THEN NULL ELSE fang.fang_schedules.paused_until END, paused_at=CASE WHEN ((SELECT seen.verdict
FROM seen) = 'paused') THEN clock_timestamp() ELSE fang.fang_schedules.paused_at END, paused_by=CASE WHEN ((SELECT seen.verdict
FROM seen) = 'paused') THEN 'fang' ELSE fang.fang_schedules.paused_by END, pause_reason=CASE WHEN ((SELECT seen.verdict
FROM seen) = 'paused') THEN concat('task ', (SELECT seen.last_task_id
FROM seen), ' of its last tick has failed') ELSE fang.fang_schedules.pause_reason END, last_task_id=CASE WHEN ((SELECT seen.verdict
FROM seen) = 'ticked' AND NOT (SELECT seen.has_twin
FROM seen)) THEN $5::UUID ELSE fang.fang_schedules.last_task_id END, changed_at=CASE WHEN ((SELECT seen.verdict
FROM seen) = 'paused') THEN greatest(clock_timestamp(), fang.fang_schedules.changed_at + '1 us'::interval) ELSE fang.fang_schedules.changed_at END, changed_by=CASE WHEN ((SELECT seen.verdict
FROM seen) = 'paused') THEN 'fang' ELSE fang.fang_schedules.changed_by END, change_reason=CASE WHEN ((SELECT seen.verdict
FROM seen) = 'paused') THEN concat('task ', (SELECT seen.last_task_id
FROM seen), ' of its last tick has failed') ELSE fang.fang_schedules.change_reason END WHERE fang.fang_schedules.name = ANY (array((SELECT held.name
FROM held))) RETURNING fang.fang_schedules.name),
inserted AS
(INSERT INTO fang.fang_tasks (id, metadata, task_type, priority, max_retries, timeout, headers, uniq_hash, lane, scheduled_at, expires_at) SELECT $5::UUID AS anon_1, CAST($6::VARCHAR AS JSONB) AS anon_2, $7::VARCHAR AS anon_3, $8::SMALLINT AS anon_4, $9::INTEGER AS anon_5, $10::INTERVAL AS anon_6, CAST($11::VARCHAR AS JSONB) AS anon_7, $2::VARCHAR AS anon_8, coalesce($12::VARCHAR, CASE WHEN (EXISTS (SELECT 1
FROM fang.fang_types
WHERE fang.fang_types.task_type = $7::VARCHAR)) THEN '' END) AS coalesce_1, $13::TIMESTAMP WITH TIME ZONE AS anon_9, coalesce($14::TIMESTAMP WITH TIME ZONE, CASE WHEN (CAST($15::FLOAT AS DOUBLE PRECISION) IS NOT NULL) THEN least($13::TIMESTAMP WITH TIME ZONE + CAST($15::FLOAT AS DOUBLE PRECISION) * '1 s'::interval, '9999-12-29 00:00:00+00'::timestamptz) END) AS coalesce_2
WHERE (EXISTS (SELECT 1
FROM raised)) AND (SELECT seen.verdict
FROM seen) = 'ticked' ON CONFLICT DO NOTHING RETURNING fang.fang_tasks.task_type, fang.fang_tasks.priority, fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT inserted.task_type AS task_type
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $16::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT inserted.task_type AS task_type, inserted.priority AS priority, CAST(EXTRACT(epoch FROM min(inserted.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM inserted
WHERE inserted.scheduled_at <= clock_timestamp() GROUP BY inserted.task_type, inserted.priority) AS passed
WHERE $16::BOOLEAN),
cancelled AS
(UPDATE fang.fang_tasks AS t SET error_message=CASE WHEN (t.state IN ('new', 'retried')) THEN coalesce(t.cancel_request, jsonb_build_object('reason', $17::VARCHAR, 'by', $18::VARCHAR, 'at', clock_timestamp())) ->> 'reason' ELSE t.error_message END, state=CASE WHEN (t.state IN ('new', 'retried')) THEN CAST('cancelled' AS fang.fang_task_state) ELSE t.state END, updated_at=clock_timestamp(), cancel_request=coalesce(t.cancel_request, jsonb_build_object('reason', $17::VARCHAR, 'by', $18::VARCHAR, 'at', clock_timestamp())) WHERE t.id = (SELECT seen.last_task_id
FROM seen) AND (CAST(t.state AS TEXT) NOT IN ('finished', 'failed', 'cancelled')) AND (t.cancel_request IS NULL OR CAST(t.state AS TEXT) IN ('new', 'retried')) AND (EXISTS (SELECT 1
FROM raised)) AND (SELECT seen.verdict
FROM seen) = 'ticked' AND (SELECT seen.overlap
FROM seen) = 'cancel_running' RETURNING t.pool_id)
 SELECT coalesce(CASE WHEN ((SELECT seen.verdict
FROM seen) IS NULL) THEN 'stale' WHEN ((SELECT seen.verdict
FROM seen) IN ('ticked', 'skipped', 'paused') AND NOT (EXISTS (SELECT 1
FROM raised))) THEN 'waits' END, (SELECT seen.verdict
FROM seen)) AS verdict, (SELECT count(woken.told) AS count_1
FROM woken) AS woken, (SELECT count(CASE WHEN $16::BOOLEAN THEN pg_notify('fang_fang', concat('!', cancelled.pool_id)) END) AS count_2
FROM cancelled
WHERE cancelled.pool_id IS NOT NULL) AS told, CASE WHEN ((SELECT seen.verdict
FROM seen) = 'paused' AND (EXISTS (SELECT 1
FROM raised))) THEN CASE WHEN $16::BOOLEAN THEN pg_notify('fang_fang', concat('!', '00000000-0000-0000-0000-000000000000')) END END AS changed
