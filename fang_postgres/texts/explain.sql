-- $1=p_id
WITH locks AS MATERIALIZED
(
  SELECT k.locktype, k.database, k.relation, k.transactionid, k.classid, k.objid, k.objsubid, k.mode, k.pid
  FROM pg_locks k WHERE k.granted AND k.pid <> pg_backend_pid()),
sessions AS MATERIALIZED
(
  SELECT a.pid, a.xact_start, a.application_name, a.state, a.state_change FROM pg_stat_get_activity(NULL) a),
hearts AS MATERIALIZED
(
  SELECT lpad(to_hex(CAST(k.classid AS bigint)), 8, '0') || lpad(to_hex(CAST(k.objid AS bigint)), 8, '0') AS key,
    extract(epoch FROM clock_timestamp() - a.state_change) AS quiet
  FROM locks k LEFT JOIN sessions a ON a.pid = k.pid
  WHERE k.locktype = 'advisory' AND k.objsubid = 1 AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
 SELECT CAST(clock_timestamp() AS TIMESTAMP WITH TIME ZONE) AS now, (
    SELECT CAST(json_build_array(p.id, p.mode, p.host, p.pid, p.workers, p.stopping,
      CASE WHEN p.locks AND NOT pg_is_in_recovery() THEN h.key IS NOT NULL END, h.quiet,
      extract(epoch FROM clock_timestamp() - v.at), p.beats, v.busy, v.waiting,
      t.kind = ANY (p.kinds), t.kind = ANY (p.isolated_kinds),
      CAST(p.runs -> CAST(t.id AS text) AS text), jsonb_array_length(CASE WHEN jsonb_typeof(v.runs) = 'array' THEN v.runs END),
      (SELECT CAST(r AS text) FROM jsonb_array_elements(CASE WHEN jsonb_typeof(v.runs) = 'array' THEN v.runs END) r WHERE r ->> 0 = CAST(t.id AS text) LIMIT 1),
      v.at >= t.claimed_at) AS text)
    FROM "fang".fang_pools p LEFT JOIN "fang".fang_live v ON v.pool_id = p.id
    LEFT JOIN LATERAL (SELECT hearts.key, hearts.quiet FROM hearts
      WHERE hearts.key = left(replace(CAST(p.id AS text), '-', ''), 16) LIMIT 1) h ON true
    WHERE t.state = 'in_progress' AND p.id = t.pool_id) AS holder, (
    SELECT CAST(json_agg(x.told) AS text) FROM (
      SELECT json_build_array(p.id, p.mode, p.host, p.pid, p.workers, p.stopping,
      CASE WHEN p.locks AND NOT pg_is_in_recovery() THEN h.key IS NOT NULL END, h.quiet,
      extract(epoch FROM clock_timestamp() - v.at), p.beats, v.busy, v.waiting,
      t.kind = ANY (p.kinds), t.kind = ANY (p.isolated_kinds)) AS told
      FROM "fang".fang_pools p LEFT JOIN "fang".fang_live v ON v.pool_id = p.id
    LEFT JOIN LATERAL (SELECT hearts.key, hearts.quiet FROM hearts
      WHERE hearts.key = left(replace(CAST(p.id AS text), '-', ''), 16) LIMIT 1) h ON true
      WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND t.task_type = ANY (p.task_types)
      ORDER BY t.kind = ANY (p.kinds) DESC, p.started_at, p.id LIMIT 100) x) AS pools, (
    SELECT CAST(json_agg(json_build_array(o.id, o.kind, o.pool_id, p.host || ':' || p.pid, o.claimed_at)
      ORDER BY o.claimed_at, o.id) AS text)
    FROM (
      SELECT x.* FROM (
        SELECT r.id, r.kind, r.pool_id, r.claimed_at FROM "fang".fang_tasks r
        WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND s.max_running IS NOT NULL AND r.task_type = t.task_type AND r.state = 'in_progress' AND r.lane >= ''
        ORDER BY r.lane LIMIT 1000) x
      ORDER BY x.claimed_at, x.id LIMIT 10) o
    LEFT JOIN "fang".fang_pools p ON p.id = o.pool_id) AS holders, (
    SELECT CAST(json_agg(json_build_array(o.id, o.kind, o.pool_id, p.host || ':' || p.pid, o.claimed_at)
      ORDER BY o.claimed_at, o.id) AS text)
    FROM (
      SELECT x.* FROM (
        SELECT r.id, r.kind, r.pool_id, r.claimed_at FROM "fang".fang_tasks r
        WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND s.max_running_per_key IS NOT NULL AND r.task_type = t.task_type AND r.state = 'in_progress' AND r.lane >= t.lane AND r.lane <= t.lane
        ORDER BY r.lane LIMIT 1000) x
      ORDER BY x.claimed_at, x.id LIMIT 10) o
    LEFT JOIN "fang".fang_pools p ON p.id = o.pool_id) AS key_holders, (
    SELECT CAST(json_build_array(k.pid, a.xact_start, a.application_name, a.state) AS text)
    FROM locks k LEFT JOIN sessions a ON a.pid = k.pid
    WHERE t.state IN ('new', 'retried') AND k.locktype = 'transactionid' AND k.mode = 'ExclusiveLock' AND k.transactionid = t.xmax
    LIMIT 1) AS locked_by, (
    SELECT CAST(json_build_array(k.pid, a.xact_start, a.application_name, a.state) AS text)
    FROM locks k LEFT JOIN sessions a ON a.pid = k.pid
    WHERE t.state IN ('new', 'retried') AND k.locktype = 'relation' AND k.relation = CAST('"fang".fang_tasks' AS regclass)
      AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) AND k.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock') LIMIT 1) AS table_locked_by, (
    SELECT CAST(json_build_array(k.pid, a.xact_start, a.application_name, a.state) AS text)
    FROM locks k LEFT JOIN sessions a ON a.pid = k.pid
    WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND k.locktype = 'transactionid' AND k.mode = 'ExclusiveLock'
    ORDER BY age(k.transactionid) DESC LIMIT 1) AS writer, (SELECT count(*) FROM "fang".fang_pools p WHERE p.mode <> 'manual') AS registered, (
    SELECT count(*) FROM (
      SELECT 1 FROM "fang".fang_tasks r
      WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND s.max_running IS NOT NULL AND r.task_type = t.task_type AND r.state = 'in_progress' AND r.lane >= ''
      ORDER BY r.lane LIMIT (SELECT greatest(s.max_running, 0))) held) AS running, (
    SELECT count(*) FROM (
      SELECT 1 FROM "fang".fang_tasks r
      WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND s.max_running_per_key IS NOT NULL AND r.task_type = t.task_type AND r.state = 'in_progress' AND r.lane >= t.lane AND r.lane <= t.lane
      ORDER BY r.lane LIMIT (SELECT greatest(s.max_running_per_key, 0))) held) AS key_running, (
    SELECT least(count(*), 1000) FROM (
      (SELECT 1 FROM generate_series(-2, CAST(t.priority AS integer) - 1) g(level)
       CROSS JOIN LATERAL (
         SELECT 1 FROM "fang".fang_tasks b
         WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND NOT (coalesce(((s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL) OR s.fair OR (s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false))), false) AND t.lane IS NOT NULL) AND b.task_type = t.task_type AND b.scheduled_at <= now() AND b.state IN ('new', 'retried') AND b.priority = CAST(g.level AS smallint)
         ORDER BY b.scheduled_at, b.id LIMIT 1000) x LIMIT 1000)
      UNION ALL
      (SELECT 1 FROM "fang".fang_tasks b
       WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND NOT (coalesce(((s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL) OR s.fair OR (s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false))), false) AND t.lane IS NOT NULL) AND b.task_type = t.task_type AND b.scheduled_at <= now() AND b.state IN ('new', 'retried') AND b.priority = t.priority AND (b.scheduled_at, b.id) < (t.scheduled_at, t.id)
       ORDER BY b.scheduled_at, b.id LIMIT 1000)
      UNION ALL
      (SELECT 1 FROM generate_series(-2, CAST(t.priority AS integer) - 1) g(level)
       CROSS JOIN LATERAL (
         SELECT 1 FROM "fang".fang_tasks b
         WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND coalesce(((s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL) OR s.fair OR (s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false))), false) AND t.lane IS NOT NULL AND b.task_type = t.task_type AND b.scheduled_at <= now() AND b.lane = t.lane AND CASE b.state WHEN 'new' THEN true WHEN 'retried' THEN true ELSE false END AND b.priority = CAST(g.level AS smallint)
         ORDER BY b.scheduled_at, b.id LIMIT 1000) x LIMIT 1000)
      UNION ALL
      (SELECT 1 FROM "fang".fang_tasks b
       WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND coalesce(((s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL) OR s.fair OR (s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false))), false) AND t.lane IS NOT NULL AND b.task_type = t.task_type AND b.scheduled_at <= now() AND b.lane = t.lane AND CASE b.state WHEN 'new' THEN true WHEN 'retried' THEN true ELSE false END AND b.priority = t.priority AND (b.scheduled_at, b.id) < (t.scheduled_at, t.id)
       ORDER BY b.scheduled_at, b.id LIMIT 1000)) before) AS ahead, (
    SELECT greatest(u.tat, '0001-01-03 00:00:00+00'::timestamptz) FROM "fang".fang_turns u
    WHERE s.rate_interval IS NOT NULL AND u.task_type = t.task_type) AS tat, (
    SELECT greatest(l.tat, '0001-01-03 00:00:00+00'::timestamptz) FROM "fang".fang_lanes l
    WHERE s.key_rate_interval IS NOT NULL AND l.task_type = t.task_type AND l.lane = t.lane) AS key_tat, (SELECT greatest((SELECT h.at FROM "fang".fang_stats h
        WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND h.span = 60 AND h.at > now() - interval '2 hours' AND h.task_type = t.task_type AND h.kind = t.kind
          AND h.started > 0 AND NOT EXISTS (
            SELECT 1 FROM "fang".fang_pools p WHERE t.task_type = ANY (p.task_types) AND t.kind = ANY (p.kinds))
        ORDER BY h.at DESC LIMIT 1), (SELECT h.at FROM "fang".fang_stats h
        WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND h.span = 3600 AND h.at > now() - interval '7 days' AND h.task_type = t.task_type AND h.kind = t.kind
          AND h.started > 0 AND NOT EXISTS (
            SELECT 1 FROM "fang".fang_pools p WHERE t.task_type = ANY (p.task_types) AND t.kind = ANY (p.kinds))
        ORDER BY h.at DESC LIMIT 1))) AS served_at, (SELECT greatest((SELECT h.at FROM "fang".fang_stats h
        WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND h.span = 60 AND h.at > now() - interval '2 hours' AND h.task_type = t.task_type
          AND h.started > 0 AND NOT EXISTS (
            SELECT 1 FROM "fang".fang_pools p WHERE t.task_type = ANY (p.task_types))
        ORDER BY h.at DESC LIMIT 1), (SELECT h.at FROM "fang".fang_stats h
        WHERE t.state IN ('new', 'retried') AND t.scheduled_at <= now() AND h.span = 3600 AND h.at > now() - interval '7 days' AND h.task_type = t.task_type
          AND h.started > 0 AND NOT EXISTS (
            SELECT 1 FROM "fang".fang_pools p WHERE t.task_type = ANY (p.task_types))
        ORDER BY h.at DESC LIMIT 1))) AS type_served_at, s.task_type AS s_task_type, s.paused AND coalesce(s.paused_until > clock_timestamp(), true) AS s_is_paused, CASE WHEN (s.paused_until IS NOT NULL) THEN least(greatest(s.paused_until, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS s_paused_until, CASE WHEN (s.paused_at IS NOT NULL) THEN least(greatest(s.paused_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS s_paused_at, s.paused_by AS s_paused_by, s.pause_reason AS s_pause_reason, CASE WHEN (s.settling_until IS NOT NULL) THEN least(greatest(s.settling_until, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS s_settling_until, s.max_running AS s_max_running, s.max_running_per_key AS s_max_running_per_key, CASE WHEN (s.rate_interval IS NOT NULL) THEN least(greatest(s.rate_interval, '1 us'::interval), '36600 days'::interval) END AS s_rate_interval, s.rate_burst AS s_rate_burst, CASE WHEN (s.key_rate_interval IS NOT NULL) THEN least(greatest(s.key_rate_interval, '1 us'::interval), '36600 days'::interval) END AS s_key_rate_interval, s.key_rate_burst AS s_key_rate_burst, s.fair AS s_fair, CAST(s.weights AS TEXT) AS s_weights, CAST(s.declared AS TEXT) AS s_declared, CAST(s.changed AS TEXT) AS s_changed, CASE WHEN (s.changed_at IS NOT NULL) THEN least(greatest(s.changed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS s_changed_at, s.changed_by AS s_changed_by, s.change_reason AS s_change_reason, t.id, CAST(t.metadata AS TEXT) AS metadata, t.kind, t.task_type, CAST(t.state AS TEXT) AS state, t.priority, t.retries, t.max_retries, t.crashes, t.attempt, t.scheduled_at, t.created_at, t.updated_at, t.error_message, CAST(t.errors AS TEXT) AS errors, t.pool_id, CASE WHEN (t.claimed_at IS NOT NULL) THEN least(greatest(t.claimed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS claimed_at, t.uniq_hash, CAST(t.headers AS TEXT) AS headers, CASE WHEN (t.timeout IS NOT NULL) THEN least(greatest(t.timeout, '1 us'::interval), '36600 days'::interval) END AS timeout, CASE WHEN (t.expires_at IS NOT NULL) THEN least(greatest(t.expires_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS expires_at, CAST(t.cancel_request AS TEXT) AS cancel_request, t.group_limit, t.lane
FROM (SELECT 1 AS one) AS one LEFT OUTER JOIN fang.fang_tasks AS t ON t.id = $1::UUID LEFT OUTER JOIN fang.fang_types AS s ON s.task_type = t.task_type
