--
SELECT p.id, p.mode, p.host, p.pid, p.task_types, p.kinds, p.workers, CASE WHEN (p.started_at IS NOT NULL) THEN least(greatest(p.started_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS started_at, p.stopping, CAST(p.runs AS TEXT) AS runs, v.busy, v.waiting, CASE WHEN (v.at IS NOT NULL) THEN least(greatest(v.at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS at, CAST(v.runs AS TEXT) AS live
FROM fang.fang_pools AS p LEFT OUTER JOIN fang.fang_live AS v ON v.pool_id = p.id ORDER BY p.started_at, p.id
