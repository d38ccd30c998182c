-- $1=p_hours $2=p_lasts $3=p_task_types $4=p_kinds
WITH range AS
(SELECT greatest(
    date_trunc(CASE WHEN CAST($1::BOOLEAN AS BOOLEAN) THEN 'hour' ELSE 'minute' END, now() - CAST($2::INTERVAL AS INTERVAL), 'UTC'), to_timestamp(0)) AS since),
edge AS
(SELECT coalesce(max(d.at) + interval '1 hour', '-infinity') AS at FROM "fang".fang_stats d
  WHERE CAST($1::BOOLEAN AS BOOLEAN) AND d.span = 3600 AND d.at <= now()),
wanted AS
(SELECT s.* FROM "fang".fang_stats s
  WHERE CAST($1::BOOLEAN AS BOOLEAN) AND s.span = 3600 AND s.at >= (SELECT since FROM range) AND s.at <= now()
  UNION ALL
  SELECT s.* FROM "fang".fang_stats s
  WHERE s.span = 60 AND s.at >= greatest((SELECT since FROM range), (SELECT at FROM edge))
    AND s.at <= now() + interval '1 year'),
summed AS
(SELECT w.at, w.span, w.role, w.task_type, w.kind, least(coalesce(sum(started) FILTER (WHERE started >= 0), 0), 4611686018427387904)::bigint AS started, least(coalesce(sum(arrived) FILTER (WHERE arrived >= 0), 0), 4611686018427387904)::bigint AS arrived, least(coalesce(sum(finished) FILTER (WHERE finished >= 0), 0), 4611686018427387904)::bigint AS finished, least(coalesce(sum(retried) FILTER (WHERE retried >= 0), 0), 4611686018427387904)::bigint AS retried, least(coalesce(sum(failed) FILTER (WHERE failed >= 0), 0), 4611686018427387904)::bigint AS failed, least(coalesce(sum(cancelled) FILTER (WHERE cancelled >= 0), 0), 4611686018427387904)::bigint AS cancelled, least(coalesce(sum(lost) FILTER (WHERE lost >= 0), 0), 4611686018427387904)::bigint AS lost, least(coalesce(sum(rescued) FILTER (WHERE rescued >= 0), 0), 4611686018427387904)::bigint AS rescued, coalesce(sum(queue_s) FILTER (WHERE queue_s BETWEEN 0 AND 1e15), 0) AS queue_s, coalesce(sum(run_s) FILTER (WHERE run_s BETWEEN 0 AND 1e15), 0) AS run_s, coalesce(sum(cpu_s) FILTER (WHERE cpu_s BETWEEN 0 AND 1e15), 0) AS cpu_s, coalesce(sum(worker_s) FILTER (WHERE worker_s BETWEEN 0 AND 1e15), 0) AS worker_s,
    (SELECT since FROM range) AS since, now() AS until
  FROM (SELECT wanted.*, CASE WHEN wanted.kind = '' THEN 0
  WHEN (CAST($3::TEXT[] AS TEXT[]) IS NULL OR wanted.task_type = ANY (CAST($3::TEXT[] AS TEXT[])))
    AND (CAST($4::TEXT[] AS TEXT[]) IS NULL OR wanted.kind = ANY (CAST($4::TEXT[] AS TEXT[]))) THEN 1 ELSE 2 END AS role FROM wanted) w
  GROUP BY GROUPING SETS ((w.task_type, w.kind), (w.at, w.span, w.role), ()))
 SELECT summed.at, summed.span, summed.role, summed.task_type, summed.kind, summed.started, summed.arrived, summed.finished, summed.retried, summed.failed, summed.cancelled, summed.lost, summed.rescued, summed.queue_s, summed.run_s, summed.cpu_s, summed.worker_s, summed.since, summed.until
FROM summed
