-- $1=p_task_types $2=p_priorities $3=p_limit
SELECT DISTINCT first.kind
FROM unnest($1::TEXT[], $2::SMALLINT[]) AS lane(task_type, priority) JOIN LATERAL (SELECT fang.fang_tasks.kind AS kind
FROM fang.fang_tasks
WHERE fang.fang_tasks.task_type = lane.task_type AND fang.fang_tasks.priority = lane.priority AND fang.fang_tasks.state IN ('new', 'retried') AND fang.fang_tasks.scheduled_at <= now() ORDER BY fang.fang_tasks.scheduled_at, fang.fang_tasks.id
 LIMIT (SELECT $3::INTEGER AS anon_1)) AS first ON true
WHERE NOT (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE first.kind = ANY (p.kinds) AND lane.task_type = ANY (p.task_types))) ORDER BY first.kind
