-- $1=p_has_kinds $2=p_kinds $3=p_has_task_types $4=p_task_types $5=p_has_states $6=p_states $7=p_has_pool_ids $8=p_pool_ids $9=p_inserted_before $10=p_inserted_after $11=p_updated_before $12=p_updated_after $13=p_due_before $14=p_due_after $15=p_error $16=p_headers $17=p_payload $18=p_after_at $19=p_after_id $20=p_shows $21=p_limit
WITH seen AS MATERIALIZED
(SELECT t.id AS id, coalesce(t.claimed_at, t.updated_at) AS at, coalesce(t.claimed_at, t.updated_at) AS key_0, t.id AS key_1, ((NOT $1::BOOLEAN OR t.kind = ANY (array((SELECT unnest($2::TEXT[]) AS unnest_1)))) AND (NOT $3::BOOLEAN OR t.task_type = ANY (array((SELECT unnest($4::TEXT[]) AS unnest_2)))) AND (NOT $5::BOOLEAN OR CAST(t.state AS TEXT) = ANY (array((SELECT unnest($6::TEXT[]) AS unnest_3)))) AND (NOT $7::BOOLEAN OR t.pool_id = ANY (array((SELECT unnest($8::UUID[]) AS unnest_4)))) AND ($9::TIMESTAMP WITH TIME ZONE IS NULL OR t.created_at < $9::TIMESTAMP WITH TIME ZONE) AND ($10::TIMESTAMP WITH TIME ZONE IS NULL OR t.created_at >= $10::TIMESTAMP WITH TIME ZONE) AND ($11::TIMESTAMP WITH TIME ZONE IS NULL OR t.updated_at < $11::TIMESTAMP WITH TIME ZONE) AND ($12::TIMESTAMP WITH TIME ZONE IS NULL OR t.updated_at >= $12::TIMESTAMP WITH TIME ZONE) AND ($13::TIMESTAMP WITH TIME ZONE IS NULL OR t.scheduled_at < $13::TIMESTAMP WITH TIME ZONE) AND ($14::TIMESTAMP WITH TIME ZONE IS NULL OR t.scheduled_at >= $14::TIMESTAMP WITH TIME ZONE) AND ($15::VARCHAR IS NULL OR strpos(t.error_message, $15::VARCHAR) > 0) AND ($16::VARCHAR IS NULL OR (t.headers @> CAST($16::VARCHAR AS JSONB))) AND ($17::VARCHAR IS NULL OR (t.metadata @> CAST($17::VARCHAR AS JSONB)))) IS true AS is_hit
FROM fang.fang_tasks AS t
WHERE t.state = 'in_progress' ORDER BY t.pool_id
 LIMIT 20000)
 SELECT 0 AS lane, 0 AS looked, 0 AS hits, false AS is_last, true AS is_hit, shown.at, shown.key_0, shown.key_1
FROM (SELECT seen.key_0 AS key_0, seen.key_1 AS key_1, seen.at AS at
FROM seen
WHERE seen.is_hit AND (seen.key_0, seen.key_1) > ($18::TIMESTAMP WITH TIME ZONE, $19::UUID) AND $20::BOOLEAN ORDER BY seen.key_0, seen.key_1
 LIMIT (SELECT $21::INTEGER AS anon_1)) AS shown UNION ALL SELECT 0 AS lane, count(*) AS looked, count(*) FILTER (WHERE seen.is_hit) AS hits, true AS is_last, false AS is_hit, max(seen.at) AS at, CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS key_0, CAST(NULL AS UUID) AS key_1
FROM seen
