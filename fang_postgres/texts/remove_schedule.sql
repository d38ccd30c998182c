-- $1=p_notify $2=p_name
WITH gone AS
(DELETE FROM fang.fang_schedules WHERE fang.fang_schedules.name = $2::VARCHAR AND NOT (fang.fang_schedules.declared IS NOT NULL AND (fang.fang_schedules.kind IS NOT NULL OR fang.fang_schedules.changed_at IS NOT NULL)) RETURNING fang.fang_schedules.name),
given_back AS
(UPDATE fang.fang_schedules SET last_tick=greatest(fang.fang_schedules.last_tick, clock_timestamp()), kind=NULL, metadata=NULL, options=NULL, cron=NULL, every=NULL, at=NULL, tz=NULL, overlap='allow', missed='latest', missed_within=NULL, jitter=NULL, until=NULL, anchor=NULL, pause_on_failure=false, paused=false, paused_until=NULL, paused_at=NULL, paused_by=NULL, pause_reason=NULL, task_type=NULL, last_task_id=NULL, changed_at=NULL, changed_by=NULL, change_reason=NULL WHERE fang.fang_schedules.name = $2::VARCHAR AND fang.fang_schedules.declared IS NOT NULL AND (fang.fang_schedules.kind IS NOT NULL OR fang.fang_schedules.changed_at IS NOT NULL) RETURNING fang.fang_schedules.name)
 SELECT count(*) AS count, count(CASE WHEN $1::BOOLEAN THEN pg_notify('fang_fang', concat('!', '00000000-0000-0000-0000-000000000000')) END) AS told
FROM (SELECT gone.name AS name
FROM gone UNION ALL SELECT given_back.name AS name
FROM given_back) AS removed
