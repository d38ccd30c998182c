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
(SELECT w.task_type, w.kind, x.what, x.b, least(sum(x.n), 1e15)::bigint AS n
  FROM wanted w CROSS JOIN LATERAL (
  SELECT 1 AS what, b, w.queue[b] AS n FROM generate_subscripts(w.queue, 1) b
  UNION ALL SELECT 2, b, w.run[b] FROM generate_subscripts(w.run, 1) b) x
  WHERE CASE WHEN w.kind = '' THEN 0
  WHEN (CAST($3::TEXT[] AS TEXT[]) IS NULL OR w.task_type = ANY (CAST($3::TEXT[] AS TEXT[])))
    AND (CAST($4::TEXT[] AS TEXT[]) IS NULL OR w.kind = ANY (CAST($4::TEXT[] AS TEXT[]))) THEN 1 ELSE 2 END = 1 AND x.n > 0 GROUP BY 1, 2, 3, 4)
 SELECT summed.task_type, summed.kind, summed.what, summed.b, summed.n
FROM summed
