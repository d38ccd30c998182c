-- $1=p_task_types
SELECT fang.fang_scaling.task_type, fang.fang_scaling.due, fang.fang_scaling.oldest_due_seconds, fang.fang_scaling.running, fang.fang_scaling.workers, fang.fang_scaling.paused
FROM fang.fang_scaling
WHERE ($1::TEXT[] IS NULL OR fang.fang_scaling.task_type = ANY ($1::TEXT[])) AND fang.fang_scaling.task_type IS NOT NULL
