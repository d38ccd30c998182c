-- $1=p_counts $2=p_task_types
SELECT fang.fang_types.task_type, fang.fang_types.paused AND coalesce(fang.fang_types.paused_until > clock_timestamp(), true) AS is_paused, CASE WHEN (fang.fang_types.paused_until IS NOT NULL) THEN least(greatest(fang.fang_types.paused_until, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS paused_until, CASE WHEN (fang.fang_types.paused_at IS NOT NULL) THEN least(greatest(fang.fang_types.paused_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS paused_at, fang.fang_types.paused_by, fang.fang_types.pause_reason, fang.fang_types.settling_until, fang.fang_types.max_running, fang.fang_types.max_running_per_key, fang.fang_types.rate_interval, fang.fang_types.rate_burst, fang.fang_types.key_rate_interval, fang.fang_types.key_rate_burst, fang.fang_types.fair, CAST(fang.fang_types.weights AS TEXT) AS weights, CAST(fang.fang_types.declared AS TEXT) AS declared, CAST(fang.fang_types.changed AS TEXT) AS changed, CASE WHEN (fang.fang_types.changed_at IS NOT NULL) THEN least(greatest(fang.fang_types.changed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS changed_at, fang.fang_types.changed_by, fang.fang_types.change_reason, CASE WHEN $1::BOOLEAN THEN (SELECT count(*) AS count_1
FROM fang.fang_tasks AS r
WHERE r.task_type = fang.fang_types.task_type AND r.state = 'in_progress') ELSE 0 END AS running, CASE WHEN $1::BOOLEAN THEN (SELECT count(*) AS count_2
FROM (SELECT 1
FROM fang.fang_tasks AS w
WHERE w.task_type = fang.fang_types.task_type AND w.state IN ('new', 'retried')
 LIMIT 10000) AS some_waiting) ELSE 0 END AS waiting
FROM fang.fang_types
WHERE $2::TEXT[] IS NULL OR fang.fang_types.task_type = ANY (array((SELECT unnest($2::TEXT[]) AS unnest_1))) ORDER BY fang.fang_types.task_type
