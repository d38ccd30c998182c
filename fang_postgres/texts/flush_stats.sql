-- $1=p_at $2=p_latest $3=p_writer $4=p_rows
WITH allowed AS
(SELECT CAST($1::TIMESTAMP WITH TIME ZONE AS TIMESTAMP WITH TIME ZONE) >= now() - CAST($2::INTERVAL AS INTERVAL) AS is_in_time
  FROM (SELECT set_config('synchronous_commit', 'off', true) AS is_set) s WHERE is_set IS NOT NULL),
written AS
(INSERT INTO "fang".fang_stats AS s (at, writer, task_type, kind, started, arrived, finished, retried, failed, cancelled, lost, rescued, queue_s, run_s, cpu_s, worker_s, queue, run)
  SELECT CAST($1::TIMESTAMP WITH TIME ZONE AS TIMESTAMP WITH TIME ZONE), CAST($3::UUID AS UUID), n.task_type, n.kind, n.started, n.arrived, n.finished, n.retried, n.failed, n.cancelled, n.lost, n.rescued, n.queue_s, n.run_s, n.cpu_s, n.worker_s, CAST(n.queue AS integer[]), CAST(n.run AS integer[])
  FROM jsonb_to_recordset(CAST(CAST($4::VARCHAR AS TEXT) AS jsonb)) AS n(task_type text, kind text, started bigint, arrived bigint, finished bigint, retried bigint, failed bigint, cancelled bigint, lost bigint, rescued bigint, queue_s double precision, run_s double precision, cpu_s double precision, worker_s double precision, queue text, run text)
  WHERE (SELECT is_in_time FROM allowed)
  ON CONFLICT (span, at, writer, task_type, kind) DO UPDATE SET started = excluded.started, arrived = excluded.arrived, finished = excluded.finished, retried = excluded.retried, failed = excluded.failed, cancelled = excluded.cancelled, lost = excluded.lost, rescued = excluded.rescued, queue_s = excluded.queue_s, run_s = excluded.run_s, cpu_s = excluded.cpu_s, worker_s = excluded.worker_s, queue = excluded.queue, run = excluded.run
  RETURNING 1),
told AS
(SELECT now() AS now, is_in_time FROM allowed)
 SELECT told.now, told.is_in_time
FROM told
