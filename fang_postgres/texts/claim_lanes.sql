-- $1=p_task_type $2=p_pool_id $3=p_limit $4=p_most_lanes $5=p_looks_closely $6=p_kinds $7=p_group_size $8=p_isolated_kinds $9=p_after_lane $10=p_quantum
WITH setting AS MATERIALIZED
(
  SELECT s.max_running, s.max_running_per_key AS per_key, s.weights,
    s.max_running IS NOT NULL OR s.rate_interval IS NOT NULL AS whole,
    s.max_running_per_key IS NOT NULL OR s.key_rate_interval IS NOT NULL AS keyed,
    s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL AS is_rated,
    (s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL) AS is_counted, (s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false)) AS is_stopped, ((s.max_running IS NOT NULL OR s.max_running_per_key IS NOT NULL
    OR s.rate_interval IS NOT NULL OR s.key_rate_interval IS NOT NULL) OR s.fair OR (s.paused AND coalesce(s.paused_until > now(), true)
    OR coalesce(s.settling_until > now(), false))) AS is_managed, greatest(1024, CAST(current_setting('max_locks_per_transaction') AS bigint)
    * (CAST(current_setting('max_connections') AS integer)
      + CAST(current_setting('max_prepared_transactions') AS integer)) / 2) AS stripes,
    CASE WHEN s.paused AND s.paused_until IS NULL THEN NULL
      ELSE nullif(greatest(CASE WHEN s.paused THEN s.paused_until END, s.settling_until), 'infinity')
      END AS stopped_until
  FROM "fang".fang_types s
  WHERE s.task_type = $1::VARCHAR),
held AS MATERIALIZED
(
  SELECT s.*, CASE
    WHEN current_setting('transaction_isolation') <> 'read committed' THEN false
    WHEN s.whole THEN pg_try_advisory_xact_lock(hashtextextended('fang.' || $1::VARCHAR, 1718513255))
    ELSE true END AS has_turn
  FROM setting s WHERE s.is_managed AND NOT s.is_stopped AND NOT s.is_rated AND EXISTS (
    SELECT 1 FROM "fang".fang_pools p WHERE p.id = $2::UUID AND p.beats > -1)),
room AS MATERIALIZED
(
  SELECT c.*, CASE WHEN NOT c.has_turn THEN -1 ELSE CAST(greatest(0, least($3::INTEGER,
      CASE WHEN c.max_running IS NOT NULL THEN c.max_running - "fang".fang_running_1($1::VARCHAR, NULL) END
      )) AS integer) END AS n
  FROM held c),
looked AS MATERIALIZED
(
  SELECT level.priority, walk.lane, walk.before, walk.wrapped, walk.n, walk.n = $4::INTEGER AS is_last,
    CASE
      WHEN walk.head_at > now() THEN 0
      WHEN (SELECT $5::BOOLEAN) AND (
        SELECT 1 FROM "fang".fang_tasks t
        WHERE t.task_type = $1::VARCHAR AND t.priority = level.priority
          AND t.lane = walk.lane AND t.scheduled_at <= now()
          AND CASE t.state WHEN 'new' THEN true WHEN 'retried' THEN true ELSE false END AND t.attempt < 9223372036854775807
      AND t.kind = ANY ($6::TEXT[])
      AND (t.crashes < 2 OR greatest(coalesce(t.group_limit, 32767), 1) >= $7::INTEGER
        OR (t.kind = ANY ($8::TEXT[]) AND coalesce(t.group_limit, 32767) > 1))
        ORDER BY t.scheduled_at, t.id LIMIT 1) IS NULL THEN 0
      WHEN NOT room.keyed THEN $3::INTEGER
      WHEN walk.free <= 0 THEN 0
      WHEN room.whole OR pg_try_advisory_xact_lock(hashtextextended(
        'fang', 1718513256 + mod(hashtextextended(walk.lane, hashtext($1::VARCHAR)) & 9223372036854775807,
          room.stripes)))
        THEN least(walk.free, $3::INTEGER)
      ELSE -1 END AS free
  FROM room CROSS JOIN unnest(CAST(ARRAY[-2, -1, 0, 1, 2] AS smallint[])) AS level(priority)
  CROSS JOIN LATERAL (
    WITH RECURSIVE lane(lane, before, head_at, wrapped, n) AS (
      SELECT $9::VARCHAR COLLATE "C", CAST(NULL AS text) COLLATE "C", CAST(NULL AS timestamptz), false, 0
      UNION ALL
      SELECT nx.lane, l.lane, nx.scheduled_at, nx.wrapped, l.n + 1 FROM lane l CROSS JOIN LATERAL (
        (SELECT t.lane, t.scheduled_at, l.wrapped AS wrapped FROM "fang".fang_tasks t
         WHERE t.task_type = $1::VARCHAR AND t.priority = level.priority AND CASE t.state WHEN 'new' THEN true WHEN 'retried' THEN true ELSE false END
           AND t.lane > l.lane
         ORDER BY t.lane, t.scheduled_at, t.id LIMIT 1)
        UNION ALL
        (SELECT t.lane, t.scheduled_at, true FROM "fang".fang_tasks t
         WHERE t.task_type = $1::VARCHAR AND t.priority = level.priority AND CASE t.state WHEN 'new' THEN true WHEN 'retried' THEN true ELSE false END
           AND t.lane >= '' AND NOT l.wrapped
         ORDER BY t.lane, t.scheduled_at, t.id LIMIT 1)
        LIMIT 1) nx
      WHERE NOT (nx.wrapped AND nx.lane > $9::VARCHAR) AND l.n < $4::INTEGER)
    SELECT lane.*, CASE WHEN room.per_key IS NOT NULL AND lane.head_at <= now() THEN room.per_key - (
      SELECT count(*) FROM (
        SELECT 1 FROM "fang".fang_tasks r
        WHERE r.task_type = $1::VARCHAR AND r.lane >= lane.lane AND r.lane <= lane.lane AND r.state = 'in_progress'
        ORDER BY r.lane LIMIT room.per_key) held) END AS free
    FROM lane WHERE lane.n > 0 OFFSET 0) walk
  WHERE room.n > 0),
usable AS MATERIALIZED
(
  SELECT each.*, row_number() OVER () AS place FROM (
    SELECT looked.*, generate_series(1, least(looked.free, $10::INTEGER)) AS nth FROM looked
    WHERE looked.free > 0 LIMIT (SELECT greatest(room.n, 0) FROM room)) each
  WHERE each.nth = 1),
counted AS MATERIALIZED
(
  SELECT room.n AS room, room.per_key, room.weights, $10::INTEGER AS quantum,
    (SELECT coalesce(sum(least(usable.free, $10::INTEGER)), 0) FROM usable) < room.n AS ran_out,
    CASE WHEN room.per_key IS NOT NULL THEN "fang".fang_running_each_1(
      $1::VARCHAR, ARRAY(SELECT usable.lane COLLATE "default" FROM usable ORDER BY usable.place)) END AS running
  FROM room),
fair AS MATERIALIZED
(
  SELECT f.priority, f.lane, f.before, f.n, f.free, f.weight, count(*) OVER level AS keys,
    CAST(least(f.free, ceil(f.room * f.weight / sum(f.weight) OVER level)) AS integer) AS quota
  FROM (
    SELECT usable.priority, usable.lane, usable.before, usable.n, counted.room,
      least(usable.free, counted.per_key - counted.running[usable.place]) AS free,
      CASE WHEN jsonb_typeof(counted.weights -> usable.lane) = 'number'
        THEN CAST(least(greatest(CAST(counted.weights ->> usable.lane AS numeric), 1), 1000) AS double precision)
        ELSE 1 END AS weight
    FROM counted CROSS JOIN usable) f
  WHERE f.free > 0
  WINDOW level AS (PARTITION BY f.priority)
  ORDER BY f.priority, f.n),
due AS MATERIALIZED
(
  SELECT x.ctid, f.priority, f.n, f.lane, f.free, row_number() OVER () AS place
  FROM fair f CROSS JOIN LATERAL (
    SELECT t.ctid FROM "fang".fang_tasks t
    WHERE t.task_type = $1::VARCHAR AND t.priority = f.priority
      AND t.lane = f.lane AND t.scheduled_at <= now()
      AND CASE t.state WHEN 'new' THEN true WHEN 'retried' THEN true ELSE false END AND t.attempt < 9223372036854775807
      AND t.kind = ANY ($6::TEXT[])
      AND (t.crashes < 2 OR greatest(coalesce(t.group_limit, 32767), 1) >= $7::INTEGER
        OR (t.kind = ANY ($8::TEXT[]) AND coalesce(t.group_limit, 32767) > 1))
    ORDER BY t.scheduled_at, t.id LIMIT f.quota FOR NO KEY UPDATE OF t SKIP LOCKED) x
  LIMIT (SELECT greatest(room.n, 0) FROM room)),
picked AS MATERIALIZED
(
  SELECT d.ctid, d.priority, d.n FROM (
    SELECT due.*, row_number() OVER (PARTITION BY due.lane ORDER BY due.place) AS nth FROM due) d
  WHERE d.nth <= d.free),
claimed AS
(UPDATE fang.fang_tasks AS t SET state='in_progress', updated_at=now(), attempt=(t.attempt + 1), pool_id=$2::UUID, claimed_at=now() WHERE t.ctid = ANY (array((SELECT picked.ctid
FROM picked))) RETURNING t.id, t.kind, CAST(t.metadata - 'type' AS TEXT) AS payload, t.attempt, t.retries, coalesce(t.max_retries, 20) AS max_retries, t.crashes, t.task_type, t.priority, t.scheduled_at, CAST(t.headers AS TEXT) AS headers, CASE WHEN (t.timeout IS NOT NULL) THEN least(greatest(t.timeout, '1 us'::interval), '36600 days'::interval) END AS timeout, CASE WHEN (t.expires_at IS NOT NULL) THEN least(greatest(t.expires_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS expires_at, CAST(t.cancel_request AS TEXT) AS cancel_request, t.group_limit, t.lane AS of_lane)
 SELECT EXISTS (SELECT 1
FROM fang.fang_pools
WHERE fang.fang_pools.id = $2::UUID AND fang.fang_pools.beats > -1) AS registered, coalesce((SELECT setting.is_managed FROM setting), false) AS is_managed, (
    SELECT CASE WHEN room.n > 0 AND NOT EXISTS (SELECT 1 FROM claimed) AND (
        (SELECT count(*) FROM usable) > (SELECT count(*) FROM fair)
        OR ((SELECT counted.ran_out FROM counted) AND EXISTS (SELECT 1 FROM looked WHERE looked.free < 0)))
      THEN -1 ELSE room.n END FROM room WHERE room.max_running IS DISTINCT FROM 0) AS room, coalesce(
    CASE WHEN (SELECT counted.ran_out AND (SELECT count(*) FROM picked) < counted.room FROM counted) THEN (
      SELECT looked.lane FROM looked WHERE looked.is_last
      ORDER BY looked.wrapped, looked.lane LIMIT 1) END,
    (SELECT CASE WHEN p.count < f.quota OR random() * f.weight < CASE WHEN f.keys > 1 THEN p.count ELSE 1 END
       THEN f.lane ELSE f.before END
     FROM (SELECT priority, n, count(*) FROM picked GROUP BY priority, n ORDER BY priority DESC, n DESC LIMIT 1) p
     JOIN fair f ON f.priority = p.priority AND f.n = p.n),
    (SELECT usable.lane FROM usable ORDER BY usable.priority DESC, usable.n DESC LIMIT 1)) AS after_lane, CAST(pg_current_snapshot() AS TEXT) AS snapshot, now() AS now, coalesce((SELECT setting.is_counted FROM setting), false) AS is_counted, coalesce((SELECT setting.is_rated FROM setting), false) AS is_rated, (
    SELECT CAST(greatest(extract(epoch FROM setting.stopped_until - clock_timestamp()), 0) AS double precision)
    FROM setting WHERE setting.is_stopped AND setting.stopped_until IS NOT NULL) AS look_in, coalesce((
    SELECT (SELECT count(*) FROM picked) < counted.room
      AND (SELECT sum(least(fair.free, counted.quantum)) FROM fair) >= counted.room
    FROM counted WHERE counted.room > 0), false) AS is_short, (
    SELECT count(*) FROM (
      SELECT looked.free FROM looked LIMIT (
        SELECT CASE WHEN NOT counted.ran_out THEN (SELECT max(usable.n) FROM usable) END FROM counted)) passed
    WHERE passed.free < 0) AS locked, (
    SELECT CASE WHEN looked.priority < filled.priority THEN looked.lane END
    FROM (SELECT usable.priority, usable.n FROM usable WHERE NOT (SELECT counted.ran_out FROM counted)
      ORDER BY usable.place DESC LIMIT 1) filled
    CROSS JOIN LATERAL (
      SELECT looked.priority, looked.lane FROM looked
      WHERE looked.is_last OR (looked.priority = filled.priority AND looked.n = filled.n) LIMIT 1) looked) AS cut_at, NULL AS id, NULL AS kind, NULL AS payload, NULL AS attempt, NULL AS retries, NULL AS max_retries, NULL AS crashes, NULL AS task_type, NULL AS priority, NULL AS scheduled_at, NULL AS headers, NULL AS timeout, NULL AS expires_at, NULL AS cancel_request, NULL AS group_limit UNION ALL SELECT NULL AS registered, NULL AS is_managed, NULL AS room, NULL AS after_lane, NULL AS snapshot, NULL AS now, NULL AS is_counted, NULL AS is_rated, NULL AS look_in, NULL AS is_short, NULL AS locked, NULL AS cut_at, claimed.id, claimed.kind, claimed.payload, claimed.attempt, claimed.retries, claimed.max_retries, claimed.crashes, claimed.task_type, claimed.priority, claimed.scheduled_at, claimed.headers, claimed.timeout, claimed.expires_at, claimed.cancel_request, claimed.group_limit
FROM claimed
