-- $1=p_pool_id $2=p_task_types $3=p_priorities $4=p_after_at $5=p_after_id $6=p_kinds $7=p_suspects $8=p_limit
WITH due AS MATERIALIZED
(SELECT in_level.id AS id
FROM unnest($2::TEXT[], $3::SMALLINT[], $4::TIMESTAMP WITH TIME ZONE[], $5::UUID[]) AS level(task_type, priority, after_at, after_id) JOIN LATERAL (SELECT t.id AS id
FROM fang.fang_tasks AS t
WHERE t.task_type = level.task_type AND t.priority = level.priority AND t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND t.attempt < 9223372036854775807 AND (EXISTS (SELECT 1
FROM fang.fang_pools
WHERE fang.fang_pools.id = $1::UUID AND fang.fang_pools.beats > -1)) AND (t.scheduled_at, t.id) > (coalesce(level.after_at, '-infinity'::timestamptz), coalesce(level.after_id, '00000000-0000-0000-0000-000000000000'::uuid)) AND t.kind = ANY ($6::TEXT[]) AND ($7::BOOLEAN OR t.crashes < 2) ORDER BY t.scheduled_at, t.id
 LIMIT (SELECT $8::INTEGER AS anon_1) FOR NO KEY UPDATE OF t SKIP LOCKED) AS in_level ON true
 LIMIT (SELECT $8::INTEGER AS anon_1)),
claimed AS
(UPDATE fang.fang_tasks AS t SET state='in_progress', updated_at=now(), attempt=(t.attempt + 1), pool_id=$1::UUID, claimed_at=now() WHERE t.id = ANY (array((SELECT due.id
FROM due))) RETURNING t.id, t.kind, CAST(t.metadata - 'type' AS TEXT) AS payload, t.attempt, t.retries, coalesce(t.max_retries, 20) AS max_retries, t.crashes, t.task_type, t.priority, t.scheduled_at)
 SELECT CAST(pg_current_snapshot() AS TEXT) AS snapshot, now() AS now, EXISTS (SELECT 1
FROM fang.fang_pools
WHERE fang.fang_pools.id = $1::UUID AND fang.fang_pools.beats > -1) AS registered, claimed.id, claimed.kind, claimed.payload, claimed.attempt, claimed.retries, claimed.max_retries, claimed.crashes, claimed.task_type, claimed.priority, claimed.scheduled_at
FROM (SELECT 1 AS one) AS one LEFT OUTER JOIN claimed ON true
