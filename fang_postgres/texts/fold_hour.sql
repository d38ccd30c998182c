-- $1=p_at
WITH "old" AS
(SELECT CAST($1::TIMESTAMP WITH TIME ZONE AS TIMESTAMP WITH TIME ZONE) AS at, s.task_type, s.kind, s.started, s.arrived, s.finished, s.retried, s.failed, s.cancelled, s.lost, s.rescued, s.queue_s, s.run_s, s.cpu_s, s.worker_s, s.queue, s.run FROM "fang".fang_stats s
  WHERE s.span = 60 AND s.at >= CAST($1::TIMESTAMP WITH TIME ZONE AS TIMESTAMP WITH TIME ZONE) AND s.at < CAST($1::TIMESTAMP WITH TIME ZONE AS TIMESTAMP WITH TIME ZONE) + interval '1 hour'),
counts AS
(SELECT at, task_type, kind, sum(started) AS started, sum(arrived) AS arrived, sum(finished) AS finished, sum(retried) AS retried, sum(failed) AS failed, sum(cancelled) AS cancelled, sum(lost) AS lost, sum(rescued) AS rescued, sum(queue_s) AS queue_s, sum(run_s) AS run_s, sum(cpu_s) AS cpu_s, sum(worker_s) AS worker_s
  FROM old GROUP BY 1, 2, 3),
cells AS
(SELECT at, task_type, kind, what, b, sum(n)::bigint AS n FROM old CROSS JOIN LATERAL (
    SELECT 1 AS what, b, queue[b] AS n FROM generate_subscripts(queue, 1) b
    UNION ALL SELECT 2, b, run[b] FROM generate_subscripts(run, 1) b) x
  WHERE n > 0 GROUP BY 1, 2, 3, 4, 5),
ends AS
(SELECT at, task_type, kind, what, min(b) AS lo, max(b) AS hi FROM cells GROUP BY 1, 2, 3, 4),
hist AS
(SELECT e.at, e.task_type, e.kind, e.what,
    CAST('[' || e.lo || ':' || e.hi || ']={' || string_agg(coalesce(c.n, 0)::text, ',' ORDER BY g.b) || '}'
      AS integer[]) AS h
  FROM ends e CROSS JOIN LATERAL generate_series(e.lo, e.hi) g(b)
  LEFT JOIN cells c ON (c.at, c.task_type, c.kind, c.what, c.b) = (e.at, e.task_type, e.kind, e.what, g.b)
  GROUP BY e.at, e.task_type, e.kind, e.what, e.lo, e.hi),
made AS
(INSERT INTO "fang".fang_stats (span, at, writer, task_type, kind, started, arrived, finished, retried, failed, cancelled, lost, rescued, queue_s, run_s, cpu_s, worker_s, queue, run)
  SELECT 3600, k.at, '00000000-0000-0000-0000-000000000000'::uuid, k.task_type, k.kind, k.started, k.arrived, k.finished, k.retried, k.failed, k.cancelled, k.lost, k.rescued, k.queue_s, k.run_s, k.cpu_s, k.worker_s, coalesce(q.h, '{}'), coalesce(r.h, '{}')
  FROM counts k
  LEFT JOIN hist q ON (q.at, q.task_type, q.kind, q.what) = (k.at, k.task_type, k.kind, 1)
  LEFT JOIN hist r ON (r.at, r.task_type, r.kind, r.what) = (k.at, k.task_type, k.kind, 2)
  ON CONFLICT (span, at, writer, task_type, kind) DO UPDATE SET started = excluded.started, arrived = excluded.arrived, finished = excluded.finished, retried = excluded.retried, failed = excluded.failed, cancelled = excluded.cancelled, lost = excluded.lost, rescued = excluded.rescued, queue_s = excluded.queue_s, run_s = excluded.run_s, cpu_s = excluded.cpu_s, worker_s = excluded.worker_s, queue = excluded.queue, run = excluded.run RETURNING 1),
told AS
(SELECT count(*) AS made FROM made)
 SELECT told.made
FROM told
