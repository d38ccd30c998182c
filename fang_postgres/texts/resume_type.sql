-- $1=p_notify $2=p_task_type
WITH resumed AS
(UPDATE fang.fang_types SET paused=false, paused_until=NULL, paused_at=NULL, paused_by=NULL, pause_reason=NULL WHERE fang.fang_types.task_type = $2::VARCHAR AND fang.fang_types.paused RETURNING fang.fang_types.task_type)
 SELECT CASE WHEN $1::BOOLEAN THEN pg_notify('fang_fang', concat(left(resumed.task_type, 500), ',0,0')) END AS told
FROM resumed
