-- $1=p_task_type
DELETE FROM fang.fang_types WHERE fang.fang_types.task_type = $1::VARCHAR AND fang.fang_types.declared = '{}'::jsonb AND fang.fang_types.changed IS NULL AND NOT (fang.fang_types.paused AND coalesce(fang.fang_types.paused_until > clock_timestamp(), true)) AND NOT coalesce(fang.fang_types.settling_until > clock_timestamp(), false) RETURNING fang.fang_types.task_type
