-- $1=p_as_of $2=p_has_kinds $3=p_kinds $4=p_has_task_types $5=p_task_types $6=p_has_states $7=p_states $8=p_has_pool_ids $9=p_pool_ids $10=p_inserted_before $11=p_inserted_after $12=p_updated_before $13=p_updated_after $14=p_due_before $15=p_due_after $16=p_error $17=p_headers $18=p_payload $19=p_ids $20=p_from $21=p_window $22=p_limit $23=p_notify
WITH found AS MATERIALIZED
(SELECT looked.id AS id, ((CAST(looked.state AS TEXT) IN ('finished', 'failed', 'cancelled') OR CAST(looked.state AS TEXT) = 'retried' AND looked.scheduled_at > now()) AND looked.updated_at <= $1::TIMESTAMP WITH TIME ZONE AND (NOT $2::BOOLEAN OR looked.kind = ANY (array((SELECT unnest($3::TEXT[]) AS unnest_1)))) AND (NOT $4::BOOLEAN OR looked.task_type = ANY (array((SELECT unnest($5::TEXT[]) AS unnest_2)))) AND (NOT $6::BOOLEAN OR CAST(looked.state AS TEXT) = ANY (array((SELECT unnest($7::TEXT[]) AS unnest_3)))) AND (NOT $8::BOOLEAN OR looked.pool_id = ANY (array((SELECT unnest($9::UUID[]) AS unnest_4)))) AND ($10::TIMESTAMP WITH TIME ZONE IS NULL OR looked.created_at < $10::TIMESTAMP WITH TIME ZONE) AND ($11::TIMESTAMP WITH TIME ZONE IS NULL OR looked.created_at >= $11::TIMESTAMP WITH TIME ZONE) AND ($12::TIMESTAMP WITH TIME ZONE IS NULL OR looked.updated_at < $12::TIMESTAMP WITH TIME ZONE) AND ($13::TIMESTAMP WITH TIME ZONE IS NULL OR looked.updated_at >= $13::TIMESTAMP WITH TIME ZONE) AND ($14::TIMESTAMP WITH TIME ZONE IS NULL OR looked.scheduled_at < $14::TIMESTAMP WITH TIME ZONE) AND ($15::TIMESTAMP WITH TIME ZONE IS NULL OR looked.scheduled_at >= $15::TIMESTAMP WITH TIME ZONE) AND ($16::VARCHAR IS NULL OR strpos(looked.error_message, $16::VARCHAR) > 0) AND ($17::VARCHAR IS NULL OR (looked.headers @> CAST($17::VARCHAR AS JSONB))) AND ($18::VARCHAR IS NULL OR (looked.metadata @> CAST($18::VARCHAR AS JSONB)))) IS true AS wanted
FROM fang.fang_tasks AS looked
WHERE looked.id = ANY (array((SELECT unnest($19::UUID[]) AS unnest_5))) AND looked.id <= $20::UUID),
seen AS MATERIALIZED
(SELECT found.id AS id, found.wanted AS wanted
FROM found ORDER BY found.id DESC
 LIMIT (SELECT $21::INTEGER AS anon_1)),
doomed AS MATERIALIZED
(SELECT seen.id AS id
FROM seen
WHERE seen.wanted ORDER BY seen.id DESC
 LIMIT (SELECT $22::INTEGER AS anon_2)),
locked AS MATERIALIZED
(SELECT l.id AS id, l.uniq_hash AS uniq_hash, l.uniq_waiting AS uniq_waiting, l.attempt AS attempt, l.updated_at AS updated_at
FROM fang.fang_tasks AS l
WHERE l.id = ANY (array((SELECT doomed.id
FROM doomed))) AND (CAST(l.state AS TEXT) IN ('finished', 'failed', 'cancelled') OR CAST(l.state AS TEXT) = 'retried' AND l.scheduled_at > now()) AND l.updated_at <= $1::TIMESTAMP WITH TIME ZONE AND (NOT $2::BOOLEAN OR l.kind = ANY (array((SELECT unnest($3::TEXT[]) AS unnest_6)))) AND (NOT $4::BOOLEAN OR l.task_type = ANY (array((SELECT unnest($5::TEXT[]) AS unnest_7)))) AND (NOT $6::BOOLEAN OR CAST(l.state AS TEXT) = ANY (array((SELECT unnest($7::TEXT[]) AS unnest_8)))) AND (NOT $8::BOOLEAN OR l.pool_id = ANY (array((SELECT unnest($9::UUID[]) AS unnest_9)))) AND ($10::TIMESTAMP WITH TIME ZONE IS NULL OR l.created_at < $10::TIMESTAMP WITH TIME ZONE) AND ($11::TIMESTAMP WITH TIME ZONE IS NULL OR l.created_at >= $11::TIMESTAMP WITH TIME ZONE) AND ($12::TIMESTAMP WITH TIME ZONE IS NULL OR l.updated_at < $12::TIMESTAMP WITH TIME ZONE) AND ($13::TIMESTAMP WITH TIME ZONE IS NULL OR l.updated_at >= $13::TIMESTAMP WITH TIME ZONE) AND ($14::TIMESTAMP WITH TIME ZONE IS NULL OR l.scheduled_at < $14::TIMESTAMP WITH TIME ZONE) AND ($15::TIMESTAMP WITH TIME ZONE IS NULL OR l.scheduled_at >= $15::TIMESTAMP WITH TIME ZONE) AND ($16::VARCHAR IS NULL OR strpos(l.error_message, $16::VARCHAR) > 0) AND ($17::VARCHAR IS NULL OR (l.headers @> CAST($17::VARCHAR AS JSONB))) AND ($18::VARCHAR IS NULL OR (l.metadata @> CAST($18::VARCHAR AS JSONB))) ORDER BY l.id FOR NO KEY UPDATE OF l SKIP LOCKED),
changed AS
(UPDATE fang.fang_tasks AS t SET state=CASE WHEN (t.state IN ('finished', 'failed', 'cancelled')) THEN CAST('new' AS fang.fang_task_state) ELSE t.state END, retries=CASE WHEN (t.state IN ('finished', 'failed', 'cancelled')) THEN 0 ELSE t.retries END, scheduled_at=CASE WHEN (t.state IN ('finished', 'failed', 'cancelled')) THEN greatest(t.scheduled_at, clock_timestamp()) ELSE clock_timestamp() END, updated_at=clock_timestamp(), crashes=CASE WHEN (t.state IN ('finished', 'failed', 'cancelled')) THEN 0 ELSE t.crashes END, pool_id=NULL, claimed_at=NULL, expires_at=CASE WHEN (t.state IN ('finished', 'failed', 'cancelled')) THEN NULL ELSE t.expires_at END, cancel_request=CASE WHEN (t.state IN ('finished', 'failed', 'cancelled')) THEN NULL ELSE t.cancel_request END, group_limit=CASE WHEN (t.state IN ('finished', 'failed', 'cancelled')) THEN NULL ELSE t.group_limit END WHERE t.id = ANY (array((SELECT ranked.id
FROM (SELECT locked.id AS id, row_number() OVER (PARTITION BY coalesce(locked.uniq_hash, CASE WHEN (locked.attempt = 0) THEN locked.uniq_waiting END, CAST(locked.id AS TEXT)) ORDER BY locked.updated_at DESC, locked.id DESC) AS place
FROM locked) AS ranked
WHERE ranked.place = 1))) AND NOT ((t.state IN ('finished', 'failed', 'cancelled')) AND ((EXISTS (SELECT 1
FROM fang.fang_tasks AS twin
WHERE twin.uniq_hash = t.uniq_hash AND NOT (twin.state IN ('finished', 'failed', 'cancelled')))) OR (EXISTS (SELECT 1
FROM fang.fang_tasks AS twin
WHERE t.attempt = 0 AND twin.uniq_waiting = t.uniq_waiting AND twin.attempt = 0 AND NOT (twin.state IN ('finished', 'failed', 'cancelled')))))) RETURNING t.id, t.state, t.task_type, t.priority, t.scheduled_at),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT changed.task_type AS task_type
FROM changed
WHERE changed.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $23::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT changed.task_type AS task_type, changed.priority AS priority, CAST(EXTRACT(epoch FROM min(changed.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM changed
WHERE CASE WHEN (changed.state IN ('new', 'retried')) THEN changed.scheduled_at END <= clock_timestamp() GROUP BY changed.task_type, changed.priority) AS passed
WHERE $23::BOOLEAN)
 SELECT counts.changed, counts.taken, counts.told, ends.id
FROM (SELECT (SELECT count(*) AS count_1
FROM changed) AS changed, (SELECT count(*) AS count_2
FROM doomed) AS taken, (SELECT count(woken.told) AS count_3
FROM woken) AS told) AS counts LEFT OUTER JOIN (SELECT last_doomed.id AS id
FROM (SELECT doomed.id AS id
FROM doomed ORDER BY doomed.id
 LIMIT 1) AS last_doomed
WHERE (SELECT count(*) AS count_4
FROM doomed) = (SELECT $22::INTEGER AS anon_2) UNION ALL SELECT last_seen.id AS id
FROM (SELECT seen.id AS id
FROM seen ORDER BY seen.id
 LIMIT 1) AS last_seen
WHERE (SELECT count(*) AS count_4
FROM doomed) != (SELECT $22::INTEGER AS anon_2) AND (SELECT count(*) AS count_5
FROM seen) >= (SELECT $21::INTEGER AS anon_1)) AS ends ON true
