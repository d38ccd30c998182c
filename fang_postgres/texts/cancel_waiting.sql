-- $1=p_reason $2=p_by $3=p_until $4=p_has_kinds $5=p_kinds $6=p_has_task_types $7=p_task_types $8=p_has_states $9=p_states $10=p_has_pool_ids $11=p_pool_ids $12=p_inserted_before $13=p_inserted_after $14=p_updated_before $15=p_updated_after $16=p_due_before $17=p_due_after $18=p_error $19=p_headers $20=p_payload $21=p_after_type $22=p_after_priority $23=p_after_at $24=p_after_id $25=p_limit $26=p_notify
WITH seen AS MATERIALIZED
(SELECT looked.task_type AS task_type, looked.priority AS priority, looked.scheduled_at AS scheduled_at, looked.id AS id, looked.id <= $3::UUID AND (NOT $4::BOOLEAN OR looked.kind = ANY (array((SELECT unnest($5::TEXT[]) AS unnest_1)))) AND (NOT $6::BOOLEAN OR looked.task_type = ANY (array((SELECT unnest($7::TEXT[]) AS unnest_2)))) AND (NOT $8::BOOLEAN OR CAST(looked.state AS TEXT) = ANY (array((SELECT unnest($9::TEXT[]) AS unnest_3)))) AND (NOT $10::BOOLEAN OR looked.pool_id = ANY (array((SELECT unnest($11::UUID[]) AS unnest_4)))) AND ($12::TIMESTAMP WITH TIME ZONE IS NULL OR looked.created_at < $12::TIMESTAMP WITH TIME ZONE) AND ($13::TIMESTAMP WITH TIME ZONE IS NULL OR looked.created_at >= $13::TIMESTAMP WITH TIME ZONE) AND ($14::TIMESTAMP WITH TIME ZONE IS NULL OR looked.updated_at < $14::TIMESTAMP WITH TIME ZONE) AND ($15::TIMESTAMP WITH TIME ZONE IS NULL OR looked.updated_at >= $15::TIMESTAMP WITH TIME ZONE) AND ($16::TIMESTAMP WITH TIME ZONE IS NULL OR looked.scheduled_at < $16::TIMESTAMP WITH TIME ZONE) AND ($17::TIMESTAMP WITH TIME ZONE IS NULL OR looked.scheduled_at >= $17::TIMESTAMP WITH TIME ZONE) AND ($18::VARCHAR IS NULL OR strpos(looked.error_message, $18::VARCHAR) > 0) AND ($19::VARCHAR IS NULL OR (looked.headers @> CAST($19::VARCHAR AS JSONB))) AND ($20::VARCHAR IS NULL OR (looked.metadata @> CAST($20::VARCHAR AS JSONB))) AS wanted
FROM fang.fang_tasks AS looked
WHERE looked.state IN ('new', 'retried') AND (looked.task_type, looked.priority, looked.scheduled_at, looked.id) > ($21::VARCHAR, CAST($22::SMALLINT AS SMALLINT), $23::TIMESTAMP WITH TIME ZONE, $24::UUID) ORDER BY looked.task_type, looked.priority, looked.scheduled_at, looked.id
 LIMIT 10000),
doomed AS MATERIALIZED
(SELECT seen.task_type AS task_type, seen.priority AS priority, seen.scheduled_at AS scheduled_at, seen.id AS id
FROM seen
WHERE seen.wanted ORDER BY seen.task_type, seen.priority, seen.scheduled_at, seen.id
 LIMIT $25::INTEGER),
cancelled AS
(UPDATE fang.fang_tasks AS t SET error_message=CASE WHEN (t.state IN ('new', 'retried')) THEN coalesce(t.cancel_request, jsonb_build_object('reason', $1::VARCHAR, 'by', $2::VARCHAR, 'at', clock_timestamp())) ->> 'reason' ELSE t.error_message END, state=CASE WHEN (t.state IN ('new', 'retried')) THEN CAST('cancelled' AS fang.fang_task_state) ELSE t.state END, updated_at=clock_timestamp(), cancel_request=coalesce(t.cancel_request, jsonb_build_object('reason', $1::VARCHAR, 'by', $2::VARCHAR, 'at', clock_timestamp())) WHERE t.id = ANY (array((SELECT doomed.id
FROM doomed))) AND (CAST(t.state AS TEXT) NOT IN ('finished', 'failed', 'cancelled')) AND (t.cancel_request IS NULL OR CAST(t.state AS TEXT) IN ('new', 'retried')) AND (NOT $4::BOOLEAN OR t.kind = ANY (array((SELECT unnest($5::TEXT[]) AS unnest_5)))) AND (NOT $6::BOOLEAN OR t.task_type = ANY (array((SELECT unnest($7::TEXT[]) AS unnest_6)))) AND (NOT $8::BOOLEAN OR CAST(t.state AS TEXT) = ANY (array((SELECT unnest($9::TEXT[]) AS unnest_7)))) AND (NOT $10::BOOLEAN OR t.pool_id = ANY (array((SELECT unnest($11::UUID[]) AS unnest_8)))) AND ($12::TIMESTAMP WITH TIME ZONE IS NULL OR t.created_at < $12::TIMESTAMP WITH TIME ZONE) AND ($13::TIMESTAMP WITH TIME ZONE IS NULL OR t.created_at >= $13::TIMESTAMP WITH TIME ZONE) AND ($14::TIMESTAMP WITH TIME ZONE IS NULL OR t.updated_at < $14::TIMESTAMP WITH TIME ZONE) AND ($15::TIMESTAMP WITH TIME ZONE IS NULL OR t.updated_at >= $15::TIMESTAMP WITH TIME ZONE) AND ($16::TIMESTAMP WITH TIME ZONE IS NULL OR t.scheduled_at < $16::TIMESTAMP WITH TIME ZONE) AND ($17::TIMESTAMP WITH TIME ZONE IS NULL OR t.scheduled_at >= $17::TIMESTAMP WITH TIME ZONE) AND ($18::VARCHAR IS NULL OR strpos(t.error_message, $18::VARCHAR) > 0) AND ($19::VARCHAR IS NULL OR (t.headers @> CAST($19::VARCHAR AS JSONB))) AND ($20::VARCHAR IS NULL OR (t.metadata @> CAST($20::VARCHAR AS JSONB))) RETURNING t.pool_id)
 SELECT counted.count, counted.told, last.task_type, last.priority, last.scheduled_at, last.id
FROM (SELECT (SELECT count(*) AS count_1
FROM cancelled) AS count, (SELECT count(CASE WHEN $26::BOOLEAN THEN pg_notify('fang_fang', concat('!', holders.pool_id)) END) AS count_2
FROM (SELECT DISTINCT cancelled.pool_id AS pool_id
FROM cancelled
WHERE cancelled.pool_id IS NOT NULL) AS holders) AS told) AS counted LEFT OUTER JOIN (SELECT last_doomed.task_type AS task_type, last_doomed.priority AS priority, last_doomed.scheduled_at AS scheduled_at, last_doomed.id AS id
FROM (SELECT doomed.task_type AS task_type, doomed.priority AS priority, doomed.scheduled_at AS scheduled_at, doomed.id AS id
FROM doomed ORDER BY doomed.task_type DESC, doomed.priority DESC, doomed.scheduled_at DESC, doomed.id DESC
 LIMIT 1) AS last_doomed
WHERE (SELECT count(*) AS count_3
FROM doomed) = $25::INTEGER UNION ALL SELECT last_seen.task_type AS task_type, last_seen.priority AS priority, last_seen.scheduled_at AS scheduled_at, last_seen.id AS id
FROM (SELECT seen.task_type AS task_type, seen.priority AS priority, seen.scheduled_at AS scheduled_at, seen.id AS id
FROM seen ORDER BY seen.task_type DESC, seen.priority DESC, seen.scheduled_at DESC, seen.id DESC
 LIMIT 1) AS last_seen
WHERE (SELECT count(*) AS count_3
FROM doomed) != $25::INTEGER AND (SELECT count(*) AS count_4
FROM seen) >= 10000) AS last ON true
