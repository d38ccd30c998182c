SELECT p.id, p.mode, p.host, p.pid, p.task_types, p.kinds, p.workers, p.started_at, p.stopping, CAST(p.runs AS TEXT) AS runs
FROM fang.fang_pools AS p ORDER BY p.started_at, p.id
