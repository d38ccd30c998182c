SELECT p.id, p.mode, p.host, p.pid, p.task_types, p.kinds, p.workers, p.started_at, p.stopping, CAST(p.runs AS TEXT) AS runs, v.busy, v.waiting, v.at, CAST(v.runs AS TEXT) AS live
FROM fang.fang_pools AS p LEFT OUTER JOIN fang.fang_live AS v ON v.pool_id = p.id ORDER BY p.started_at, p.id
