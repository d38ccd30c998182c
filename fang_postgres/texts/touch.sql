-- $1=p_pool_id $2=p_task_types $3=p_priorities $4=p_limit
WITH due AS MATERIALIZED
(SELECT in_lane.id AS id
FROM unnest($2::TEXT[], $3::SMALLINT[]) AS lane(task_type, priority) JOIN LATERAL (SELECT t.id AS id
FROM fang.fang_tasks AS t
WHERE t.task_type = lane.task_type AND t.priority = lane.priority AND t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND t.attempt < 9223372036854775807 AND (EXISTS (SELECT 1
FROM fang.fang_pools
WHERE fang.fang_pools.id = $1::UUID AND fang.fang_pools.beats > -1)) ORDER BY t.scheduled_at, t.id
 LIMIT (SELECT $4::INTEGER AS anon_1) FOR NO KEY UPDATE OF t SKIP LOCKED) AS in_lane ON true
WHERE lane.task_type != ALL (array((SELECT s.task_type
FROM fang.fang_types AS s
WHERE ((s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL) OR s.fair OR (s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false))))))
 LIMIT (SELECT $4::INTEGER AS anon_1)),
claimed AS
(UPDATE fang.fang_tasks AS t SET state='in_progress', updated_at=now(), attempt=(t.attempt + 1), pool_id=$1::UUID, claimed_at=now() WHERE t.id = ANY (array((SELECT due.id
FROM due))) RETURNING t.id, CAST(t.metadata AS TEXT) AS metadata, t.kind, t.task_type, CAST(t.state AS TEXT) AS state, t.priority, t.retries, t.max_retries, t.crashes, t.attempt, t.scheduled_at, t.created_at, t.updated_at, t.error_message, CAST(t.errors AS TEXT) AS errors, t.pool_id, CASE WHEN (t.claimed_at IS NOT NULL) THEN least(greatest(t.claimed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS claimed_at, t.uniq_hash, CAST(t.headers AS TEXT) AS headers, CASE WHEN (t.timeout IS NOT NULL) THEN least(greatest(t.timeout, '1 us'::interval), '36600 days'::interval) END AS timeout, CASE WHEN (t.expires_at IS NOT NULL) THEN least(greatest(t.expires_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS expires_at, CAST(t.cancel_request AS TEXT) AS cancel_request, t.group_limit, t.lane)
 SELECT EXISTS (SELECT 1
FROM fang.fang_pools
WHERE fang.fang_pools.id = $1::UUID AND fang.fang_pools.beats > -1) AS registered, array((SELECT s.task_type
FROM fang.fang_types AS s
WHERE ((s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL) OR s.fair OR (s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false))))) AS managed, claimed.id, claimed.metadata, claimed.kind, claimed.task_type, claimed.state, claimed.priority, claimed.retries, claimed.max_retries, claimed.crashes, claimed.attempt, claimed.scheduled_at, claimed.created_at, claimed.updated_at, claimed.error_message, claimed.errors, claimed.pool_id, claimed.claimed_at, claimed.uniq_hash, claimed.headers, claimed.timeout, claimed.expires_at, claimed.cancel_request, claimed.group_limit, claimed.lane
FROM (SELECT 1 AS one) AS one LEFT OUTER JOIN claimed ON true
