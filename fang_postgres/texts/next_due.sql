-- $1=p_task_types $2=p_priorities $3=p_limit $4=p_kinds
SELECT CAST(EXTRACT(epoch FROM min(later.scheduled_at) - clock_timestamp()) AS DOUBLE PRECISION) AS seconds
FROM unnest($1::TEXT[], $2::SMALLINT[]) AS lane(task_type, priority) JOIN LATERAL (SELECT fang.fang_tasks.kind AS kind, fang.fang_tasks.scheduled_at AS scheduled_at
FROM fang.fang_tasks
WHERE fang.fang_tasks.task_type = lane.task_type AND fang.fang_tasks.priority = lane.priority AND fang.fang_tasks.state IN ('new', 'retried') AND fang.fang_tasks.scheduled_at > now() ORDER BY fang.fang_tasks.scheduled_at, fang.fang_tasks.id
 LIMIT (SELECT $3::INTEGER AS anon_1)) AS later ON later.kind = ANY ($4::TEXT[])
