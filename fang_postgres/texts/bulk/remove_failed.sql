-- $1=p_as_of $2=p_has_kinds $3=p_kinds $4=p_has_task_types $5=p_task_types $6=p_has_states $7=p_states $8=p_has_pool_ids $9=p_pool_ids $10=p_inserted_before $11=p_inserted_after $12=p_updated_before $13=p_updated_after $14=p_due_before $15=p_due_after $16=p_error $17=p_headers $18=p_payload $19=p_kind $20=p_after_at $21=p_after_id $22=p_window $23=p_limit $24=p_notify
WITH seen AS MATERIALIZED
(SELECT looked.updated_at AS updated_at, looked.id AS id, (looked.created_at <= $1::TIMESTAMP WITH TIME ZONE AND (NOT $2::BOOLEAN OR looked.kind = ANY (array((SELECT unnest($3::TEXT[]) AS unnest_1)))) AND (NOT $4::BOOLEAN OR looked.task_type = ANY (array((SELECT unnest($5::TEXT[]) AS unnest_2)))) AND (NOT $6::BOOLEAN OR CAST(looked.state AS TEXT) = ANY (array((SELECT unnest($7::TEXT[]) AS unnest_3)))) AND (NOT $8::BOOLEAN OR looked.pool_id = ANY (array((SELECT unnest($9::UUID[]) AS unnest_4)))) AND ($10::TIMESTAMP WITH TIME ZONE IS NULL OR looked.created_at < $10::TIMESTAMP WITH TIME ZONE) AND ($11::TIMESTAMP WITH TIME ZONE IS NULL OR looked.created_at >= $11::TIMESTAMP WITH TIME ZONE) AND ($12::TIMESTAMP WITH TIME ZONE IS NULL OR looked.updated_at < $12::TIMESTAMP WITH TIME ZONE) AND ($13::TIMESTAMP WITH TIME ZONE IS NULL OR looked.updated_at >= $13::TIMESTAMP WITH TIME ZONE) AND ($14::TIMESTAMP WITH TIME ZONE IS NULL OR looked.scheduled_at < $14::TIMESTAMP WITH TIME ZONE) AND ($15::TIMESTAMP WITH TIME ZONE IS NULL OR looked.scheduled_at >= $15::TIMESTAMP WITH TIME ZONE) AND ($16::VARCHAR IS NULL OR strpos(looked.error_message, $16::VARCHAR) > 0) AND ($17::VARCHAR IS NULL OR (looked.headers @> CAST($17::VARCHAR AS JSONB))) AND ($18::VARCHAR IS NULL OR (looked.metadata @> CAST($18::VARCHAR AS JSONB)))) IS true AS wanted
FROM fang.fang_tasks AS looked
WHERE looked.state = 'failed' AND left(looked.kind, 200) = left($19::VARCHAR, 200) AND looked.kind = $19::VARCHAR AND looked.updated_at <= $20::TIMESTAMP WITH TIME ZONE AND (looked.updated_at, looked.id) < ($20::TIMESTAMP WITH TIME ZONE, $21::UUID) ORDER BY looked.updated_at DESC, looked.id DESC
 LIMIT (SELECT $22::INTEGER AS anon_1)),
doomed AS MATERIALIZED
(SELECT seen.updated_at AS updated_at, seen.id AS id
FROM seen
WHERE seen.wanted ORDER BY seen.updated_at DESC, seen.id DESC
 LIMIT (SELECT $23::INTEGER AS anon_2)),
locked AS MATERIALIZED
(SELECT l.id AS id, l.uniq_hash AS uniq_hash, l.uniq_waiting AS uniq_waiting, l.attempt AS attempt, l.updated_at AS updated_at
FROM fang.fang_tasks AS l
WHERE l.id = ANY (array((SELECT doomed.id
FROM doomed))) AND l.created_at <= $1::TIMESTAMP WITH TIME ZONE AND (NOT $2::BOOLEAN OR l.kind = ANY (array((SELECT unnest($3::TEXT[]) AS unnest_5)))) AND (NOT $4::BOOLEAN OR l.task_type = ANY (array((SELECT unnest($5::TEXT[]) AS unnest_6)))) AND (NOT $6::BOOLEAN OR CAST(l.state AS TEXT) = ANY (array((SELECT unnest($7::TEXT[]) AS unnest_7)))) AND (NOT $8::BOOLEAN OR l.pool_id = ANY (array((SELECT unnest($9::UUID[]) AS unnest_8)))) AND ($10::TIMESTAMP WITH TIME ZONE IS NULL OR l.created_at < $10::TIMESTAMP WITH TIME ZONE) AND ($11::TIMESTAMP WITH TIME ZONE IS NULL OR l.created_at >= $11::TIMESTAMP WITH TIME ZONE) AND ($12::TIMESTAMP WITH TIME ZONE IS NULL OR l.updated_at < $12::TIMESTAMP WITH TIME ZONE) AND ($13::TIMESTAMP WITH TIME ZONE IS NULL OR l.updated_at >= $13::TIMESTAMP WITH TIME ZONE) AND ($14::TIMESTAMP WITH TIME ZONE IS NULL OR l.scheduled_at < $14::TIMESTAMP WITH TIME ZONE) AND ($15::TIMESTAMP WITH TIME ZONE IS NULL OR l.scheduled_at >= $15::TIMESTAMP WITH TIME ZONE) AND ($16::VARCHAR IS NULL OR strpos(l.error_message, $16::VARCHAR) > 0) AND ($17::VARCHAR IS NULL OR (l.headers @> CAST($17::VARCHAR AS JSONB))) AND ($18::VARCHAR IS NULL OR (l.metadata @> CAST($18::VARCHAR AS JSONB))) ORDER BY l.id FOR UPDATE OF l SKIP LOCKED),
changed AS
(DELETE FROM fang.fang_tasks AS t WHERE t.id = ANY (array((SELECT locked.id
FROM locked))) RETURNING t.id, t.state, t.task_type, t.lane),
periods AS
(DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.task_id = ANY (array((SELECT changed.id
FROM changed))))
 SELECT counts.changed, counts.taken, counts.told, ends.updated_at, ends.id
FROM (SELECT (SELECT count(*) AS count_1
FROM changed) AS changed, (SELECT count(*) AS count_2
FROM doomed) AS taken, (SELECT count(CASE WHEN $24::BOOLEAN THEN pg_notify('fang_fang', concat(left(freed.task_type, 500), ',0,0')) END) AS count_3
FROM (SELECT DISTINCT changed.task_type AS task_type
FROM changed
WHERE changed.state = 'in_progress' AND changed.lane IS NOT NULL) AS freed) AS told) AS counts LEFT OUTER JOIN (SELECT last_doomed.updated_at AS updated_at, last_doomed.id AS id
FROM (SELECT doomed.updated_at AS updated_at, doomed.id AS id
FROM doomed ORDER BY doomed.updated_at, doomed.id
 LIMIT 1) AS last_doomed
WHERE (SELECT count(*) AS count_4
FROM doomed) = (SELECT $23::INTEGER AS anon_2) UNION ALL SELECT last_seen.updated_at AS updated_at, last_seen.id AS id
FROM (SELECT seen.updated_at AS updated_at, seen.id AS id
FROM seen ORDER BY seen.updated_at, seen.id
 LIMIT 1) AS last_seen
WHERE (SELECT count(*) AS count_4
FROM doomed) != (SELECT $23::INTEGER AS anon_2) AND (SELECT count(*) AS count_5
FROM seen) >= (SELECT $22::INTEGER AS anon_1)) AS ends ON true
