-- $1=p_task_type $2=p_pool_id $3=p_limit $4=p_most_lanes $5=p_after_lane $6=p_quantum
WITH setting AS MATERIALIZED
(
  SELECT s.max_running, s.max_running_per_key AS per_key, s.weights,
    u.every, s.rate_burst AS burst,
    CAST(least(CAST(u.every AS numeric) * s.rate_burst, 3000000000000000) AS bigint) AS "full",
    u.key_every, s.key_rate_burst AS key_burst,
    CAST(least(CAST(u.key_every AS numeric) * s.key_rate_burst, 3000000000000000) AS bigint) AS key_full,
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
  FROM "fang".fang_types s CROSS JOIN LATERAL (
    SELECT CAST(extract(epoch FROM s.rate_interval) * 1000000 AS bigint) AS every, CAST(extract(epoch FROM s.key_rate_interval) * 1000000 AS bigint) AS key_every) u
  WHERE s.task_type = $1::VARCHAR),
held AS MATERIALIZED
(
  SELECT s.*, CASE
    WHEN current_setting('transaction_isolation') <> 'read committed' THEN false
    WHEN s.whole THEN pg_try_advisory_xact_lock(hashtextextended('fang.' || $1::VARCHAR, 1718513255))
    ELSE true END AS has_turn
  FROM setting s WHERE s.is_managed AND NOT s.is_stopped AND EXISTS (
    SELECT 1 FROM "fang".fang_pools p WHERE p.id = $2::UUID AND p.beats > -1)),
clocked AS MATERIALIZED
(
  SELECT h.*, c.at, CASE WHEN c.tat > c.at + h."full" * interval '1 us' THEN c.at + (h."full" - h.every) * interval '1 us'
             ELSE greatest(c.tat, c.at) END AS tat, c.tat IS NOT NULL AS has_tat
  FROM held h CROSS JOIN LATERAL (
    SELECT CASE WHEN h.has_turn AND h.every IS NOT NULL THEN "fang".fang_tat_1($1::VARCHAR) END AS tat,
      clock_timestamp() AS at OFFSET 0) c),
room AS MATERIALIZED
(
  SELECT c.*, CASE WHEN NOT c.has_turn THEN -1 ELSE CAST(greatest(0, least($3::INTEGER,
      CASE WHEN c.max_running IS NOT NULL THEN c.max_running - "fang".fang_running_1($1::VARCHAR, NULL) END
      , CASE WHEN c.has_tat THEN c.burst - (CAST(extract(epoch FROM c.tat - c.at) * 1000000 AS bigint) + c.every - 1) / c.every
        WHEN c.every IS NOT NULL THEN 0 END)) AS integer) END AS n
  FROM clocked c),
looked AS MATERIALIZED
(
  SELECT level.priority, walk.lane, walk.before, walk.wrapped, walk.n, walk.n = $4::INTEGER AS is_last, walk.until,
    CASE
      WHEN walk.head_at > now() THEN 0
      WHEN NOT room.keyed THEN $3::INTEGER
      WHEN walk.until > room.at THEN 0
      WHEN walk.free <= 0 THEN 0
      WHEN room.whole OR pg_try_advisory_xact_lock(hashtextextended(
        'fang', 1718513256 + mod(hashtextextended(walk.lane, hashtext($1::VARCHAR)) & 9223372036854775807,
          room.stripes)))
        THEN least(walk.free, CAST(least($3::INTEGER,
          CASE WHEN room.key_every IS NOT NULL THEN (
            SELECT coalesce(nullif(room.key_burst - (CAST(extract(epoch FROM c.tat - c.at) * 1000000 AS bigint) + room.key_every - 1) / room.key_every, 0), -1) FROM (
              SELECT k.at, CASE WHEN k.tat > k.at + room.key_full * interval '1 us' THEN k.at + (room.key_full - room.key_every) * interval '1 us'
             ELSE greatest(k.tat, k.at) END AS tat FROM (
                SELECT coalesce(
                  "fang".fang_lane_tat_1($1::VARCHAR, walk.lane COLLATE "default"), '-infinity') AS tat,
                  clock_timestamp() AS at OFFSET 0
              ) k OFFSET 0) c) END) AS integer))
      ELSE -1 END AS free
  FROM room CROSS JOIN unnest(CAST(ARRAY[-2, -1, 0, 1, 2] AS smallint[])) AS level(priority)
  CROSS JOIN LATERAL (
    WITH RECURSIVE lane(lane, before, head_at, wrapped, n) AS (
      SELECT $5::VARCHAR COLLATE "C", CAST(NULL AS text) COLLATE "C", CAST(NULL AS timestamptz), false, 0
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
      WHERE NOT (nx.wrapped AND nx.lane > $5::VARCHAR) AND l.n < $4::INTEGER)
    SELECT lane.*, CASE WHEN room.key_every IS NOT NULL AND lane.head_at <= now() THEN (
      SELECT CASE WHEN k.tat > room.at + room.key_full * interval '1 us' THEN room.at + (room.key_full - room.key_every) * interval '1 us'
             ELSE greatest(k.tat, room.at) END
        - (room.key_full - room.key_every) * interval '1 us'
      FROM "fang".fang_lanes k WHERE k.task_type = $1::VARCHAR AND k.lane = lane.lane) END AS until, CASE WHEN room.per_key IS NOT NULL AND lane.head_at <= now() THEN room.per_key - (
      SELECT count(*) FROM (
        SELECT 1 FROM "fang".fang_tasks r
        WHERE r.task_type = $1::VARCHAR AND r.lane >= lane.lane AND r.lane <= lane.lane AND r.state = 'in_progress'
        ORDER BY r.lane LIMIT room.per_key) held) END AS free
    FROM lane WHERE lane.n > 0 OFFSET 0) walk
  WHERE room.n > 0),
usable AS MATERIALIZED
(
  SELECT each.*, row_number() OVER () AS place FROM (
    SELECT looked.*, generate_series(1, least(looked.free, $6::INTEGER)) AS nth FROM looked
    WHERE looked.free > 0 LIMIT (SELECT greatest(room.n, 0) FROM room)) each
  WHERE each.nth = 1),
counted AS MATERIALIZED
(
  SELECT room.n AS room, room.per_key, room.weights, $6::INTEGER AS quantum,
    (SELECT coalesce(sum(least(usable.free, $6::INTEGER)), 0) FROM usable) < room.n AS ran_out,
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
    ORDER BY t.scheduled_at, t.id LIMIT f.quota FOR NO KEY UPDATE OF t SKIP LOCKED) x
  LIMIT (SELECT greatest(room.n, 0) FROM room)),
picked AS MATERIALIZED
(
  SELECT d.ctid, d.priority, d.n FROM (
    SELECT due.*, row_number() OVER (PARTITION BY due.lane ORDER BY due.place) AS nth FROM due) d
  WHERE d.nth <= d.free),
claimed AS
(UPDATE fang.fang_tasks AS t SET state='in_progress', updated_at=now(), attempt=(t.attempt + 1), pool_id=$2::UUID, claimed_at=now() WHERE t.ctid = ANY (array((SELECT picked.ctid
FROM picked))) RETURNING t.id, CAST(t.metadata AS TEXT) AS metadata, t.kind, t.task_type, CAST(t.state AS TEXT) AS state, t.priority, t.retries, t.max_retries, t.crashes, t.attempt, t.scheduled_at, t.created_at, t.updated_at, t.error_message, CAST(t.errors AS TEXT) AS errors, t.pool_id, CASE WHEN (t.claimed_at IS NOT NULL) THEN least(greatest(t.claimed_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS claimed_at, t.uniq_hash, CAST(t.headers AS TEXT) AS headers, CASE WHEN (t.timeout IS NOT NULL) THEN least(greatest(t.timeout, '1 us'::interval), '36600 days'::interval) END AS timeout, CASE WHEN (t.expires_at IS NOT NULL) THEN least(greatest(t.expires_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS expires_at, CAST(t.cancel_request AS TEXT) AS cancel_request, t.group_limit, t.lane, t.lane AS of_lane),
spent AS
(
  UPDATE "fang".fang_turns
  SET tat = (SELECT room.tat + (SELECT count(*) FROM claimed) * room.every * interval '1 us' FROM room)
  WHERE fang_turns.task_type = $1::VARCHAR AND (SELECT room.every FROM room) IS NOT NULL
    AND EXISTS (SELECT 1 FROM claimed)
  RETURNING fang_turns.task_type),
paid AS
(
  INSERT INTO "fang".fang_lanes (task_type, lane, tat)
  SELECT $1::VARCHAR, started.lane,
    CASE WHEN k.tat > k.at + room.key_full * interval '1 us' THEN k.at + (room.key_full - room.key_every) * interval '1 us'
             ELSE greatest(k.tat, k.at) END + started.n * room.key_every * interval '1 us'
  FROM room CROSS JOIN (
    SELECT claimed.of_lane AS lane, count(*) AS n FROM claimed
    WHERE (SELECT room.key_every FROM room) IS NOT NULL GROUP BY claimed.of_lane) started
  CROSS JOIN LATERAL (
    SELECT coalesce("fang".fang_lane_tat_1($1::VARCHAR, started.lane COLLATE "default"), '-infinity') AS tat,
      clock_timestamp() AS at OFFSET 0) k
  ON CONFLICT (task_type, lane) DO UPDATE SET tat = excluded.tat
  RETURNING fang_lanes.lane)
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
    (SELECT usable.lane FROM usable ORDER BY usable.priority DESC, usable.n DESC LIMIT 1)) AS after_lane, current_setting('transaction_isolation') AS isolation, NULL AS id, NULL AS metadata, NULL AS kind, NULL AS task_type, NULL AS state, NULL AS priority, NULL AS retries, NULL AS max_retries, NULL AS crashes, NULL AS attempt, NULL AS scheduled_at, NULL AS created_at, NULL AS updated_at, NULL AS error_message, NULL AS errors, NULL AS pool_id, NULL AS claimed_at, NULL AS uniq_hash, NULL AS headers, NULL AS timeout, NULL AS expires_at, NULL AS cancel_request, NULL AS group_limit, NULL AS lane UNION ALL SELECT NULL AS registered, NULL AS is_managed, NULL AS room, NULL AS after_lane, NULL AS isolation, claimed.id, claimed.metadata, claimed.kind, claimed.task_type, claimed.state, claimed.priority, claimed.retries, claimed.max_retries, claimed.crashes, claimed.attempt, claimed.scheduled_at, claimed.created_at, claimed.updated_at, claimed.error_message, claimed.errors, claimed.pool_id, claimed.claimed_at, claimed.uniq_hash, claimed.headers, claimed.timeout, claimed.expires_at, claimed.cancel_request, claimed.group_limit, claimed.lane
FROM claimed
