-- $1=p_task_types $2=p_kinds $3=p_pool_id
SELECT EXISTS (SELECT 1
FROM fang.fang_pools AS p JOIN unnest($1::TEXT[], $2::TEXT[]) AS task(task_type, kind) ON task.task_type = ANY (p.task_types) AND task.kind = ANY (p.kinds)
WHERE p.id != $3::UUID AND p.beats > -1 AND NOT p.stopping AND (p.waiting OR NOT p.locks)) AS has_taker
