-- $1=p_kinds
SELECT fang.fang_tasks.id, CAST(fang.fang_tasks.metadata AS TEXT) AS metadata, fang.fang_tasks.kind, fang.fang_tasks.task_type, CAST(fang.fang_tasks.state AS TEXT) AS state, fang.fang_tasks.priority, fang.fang_tasks.retries, fang.fang_tasks.max_retries, fang.fang_tasks.crashes, fang.fang_tasks.attempt, fang.fang_tasks.scheduled_at, fang.fang_tasks.created_at, fang.fang_tasks.updated_at, fang.fang_tasks.error_message, CAST(fang.fang_tasks.errors AS TEXT) AS errors, fang.fang_tasks.pool_id, fang.fang_tasks.claimed_at, fang.fang_tasks.uniq_hash
FROM fang.fang_tasks
WHERE fang.fang_tasks.kind IN (SELECT unnest($1::TEXT[]) AS unnest_1) ORDER BY fang.fang_tasks.created_at, fang.fang_tasks.id
