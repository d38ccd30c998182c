-- $1=p_pool_id $2=p_task_types $3=p_priorities $4=p_limit
WITH due AS MATERIALIZED
(SELECT in_level.id AS id
FROM unnest($2::TEXT[], $3::SMALLINT[]) AS level(task_type, priority) JOIN LATERAL (SELECT t.id AS id
FROM fang.fang_tasks AS t
WHERE t.task_type = level.task_type AND t.priority = level.priority AND t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND t.attempt < 9223372036854775807 AND (EXISTS (SELECT 1
FROM fang.fang_pools
WHERE fang.fang_pools.id = $1::UUID AND fang.fang_pools.beats > -1)) ORDER BY t.scheduled_at, t.id
 LIMIT (SELECT $4::INTEGER AS anon_1) FOR NO KEY UPDATE OF t SKIP LOCKED) AS in_level ON true
 LIMIT (SELECT $4::INTEGER AS anon_1)),
claimed AS
(UPDATE fang.fang_tasks AS t SET state='in_progress', updated_at=now(), attempt=(t.attempt + 1), pool_id=$1::UUID, claimed_at=now() WHERE t.id = ANY (array((SELECT due.id
FROM due))) RETURNING t.id, CAST(t.metadata AS TEXT) AS metadata, t.kind, t.task_type, CAST(t.state AS TEXT) AS state, t.priority, t.retries, t.max_retries, t.crashes, t.attempt, t.scheduled_at, t.created_at, t.updated_at, t.error_message, CAST(t.errors AS TEXT) AS errors, t.pool_id, t.claimed_at, t.uniq_hash)
 SELECT EXISTS (SELECT 1
FROM fang.fang_pools
WHERE fang.fang_pools.id = $1::UUID AND fang.fang_pools.beats > -1) AS registered, claimed.id, claimed.metadata, claimed.kind, claimed.task_type, claimed.state, claimed.priority, claimed.retries, claimed.max_retries, claimed.crashes, claimed.attempt, claimed.scheduled_at, claimed.created_at, claimed.updated_at, claimed.error_message, claimed.errors, claimed.pool_id, claimed.claimed_at, claimed.uniq_hash
FROM (SELECT 1 AS one) AS one LEFT OUTER JOIN claimed ON true
