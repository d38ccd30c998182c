-- $1=p_pool_id $2=p_task_types $3=p_priorities $4=p_after_at $5=p_after_id $6=p_kinds $7=p_group_size $8=p_isolated_kinds $9=p_limit
WITH due AS MATERIALIZED
(SELECT in_lane.id AS id
FROM unnest($2::TEXT[], $3::SMALLINT[], $4::TIMESTAMP WITH TIME ZONE[], $5::UUID[]) AS lane(task_type, priority, after_at, after_id) JOIN LATERAL (SELECT t.id AS id
FROM fang.fang_tasks AS t
WHERE t.task_type = lane.task_type AND t.priority = lane.priority AND t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND t.attempt < 9223372036854775807 AND (EXISTS (SELECT 1
FROM fang.fang_pools
WHERE fang.fang_pools.id = $1::UUID AND fang.fang_pools.beats > -1)) AND (t.scheduled_at, t.id) > (coalesce(lane.after_at, '-infinity'::timestamptz), coalesce(lane.after_id, '00000000-0000-0000-0000-000000000000'::uuid)) AND t.kind = ANY ($6::TEXT[]) AND (t.crashes < 2 OR greatest(coalesce(t.group_limit, 32767), 1) >= $7::INTEGER OR t.kind = ANY ($8::TEXT[]) AND greatest(coalesce(t.group_limit, 32767), 1) > 1) ORDER BY t.scheduled_at, t.id
 LIMIT (SELECT $9::INTEGER AS anon_1) FOR NO KEY UPDATE OF t SKIP LOCKED) AS in_lane ON true
WHERE lane.task_type != ALL (array((SELECT s.task_type
FROM fang.fang_types AS s
WHERE ((s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL) OR s.fair OR (s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false))))))
 LIMIT (SELECT $9::INTEGER AS anon_1)),
claimed AS
(UPDATE fang.fang_tasks AS t SET state='in_progress', updated_at=now(), attempt=(t.attempt + 1), pool_id=$1::UUID, claimed_at=now() WHERE t.id = ANY (array((SELECT due.id
FROM due))) RETURNING t.id, t.kind, CAST(t.metadata - 'type' AS TEXT) AS payload, t.attempt, t.retries, coalesce(t.max_retries, 20) AS max_retries, t.crashes, t.task_type, t.priority, t.scheduled_at, CAST(t.headers AS TEXT) AS headers, CASE WHEN (t.timeout IS NOT NULL) THEN least(greatest(t.timeout, '1 us'::interval), '36600 days'::interval) END AS timeout, CASE WHEN (t.expires_at IS NOT NULL) THEN least(greatest(t.expires_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS expires_at, CAST(t.cancel_request AS TEXT) AS cancel_request, t.group_limit)
 SELECT CAST(pg_current_snapshot() AS TEXT) AS snapshot, now() AS now, EXISTS (SELECT 1
FROM fang.fang_pools
WHERE fang.fang_pools.id = $1::UUID AND fang.fang_pools.beats > -1) AS registered, array((SELECT s.task_type
FROM fang.fang_types AS s
WHERE ((s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL) OR s.fair OR (s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false))))) AS managed, NULL AS id, NULL AS kind, NULL AS payload, NULL AS attempt, NULL AS retries, NULL AS max_retries, NULL AS crashes, NULL AS task_type, NULL AS priority, NULL AS scheduled_at, NULL AS headers, NULL AS timeout, NULL AS expires_at, NULL AS cancel_request, NULL AS group_limit UNION ALL SELECT NULL AS snapshot, NULL AS now, NULL AS registered, NULL AS managed, claimed.id, claimed.kind, claimed.payload, claimed.attempt, claimed.retries, claimed.max_retries, claimed.crashes, claimed.task_type, claimed.priority, claimed.scheduled_at, claimed.headers, claimed.timeout, claimed.expires_at, claimed.cancel_request, claimed.group_limit
FROM claimed
