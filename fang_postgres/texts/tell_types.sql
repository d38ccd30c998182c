-- $1=p_notify $2=p_task_types
SELECT CASE WHEN $1::BOOLEAN THEN pg_notify('fang_fang', concat(left(told.task_type, 500), ',0,0')) END AS told
FROM unnest($2::TEXT[]) AS told(task_type)
