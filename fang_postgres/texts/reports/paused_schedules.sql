--
SELECT fang.fang_schedules.name, CASE WHEN (fang.fang_schedules.paused_until IS NOT NULL) THEN least(greatest(fang.fang_schedules.paused_until, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS paused_until, CASE WHEN (fang.fang_schedules.paused_at IS NOT NULL) THEN least(greatest(fang.fang_schedules.paused_at, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS paused_at, fang.fang_schedules.paused_by, fang.fang_schedules.pause_reason
FROM fang.fang_schedules
WHERE fang.fang_schedules.paused AND (fang.fang_schedules.paused_until IS NULL OR now() < fang.fang_schedules.paused_until) ORDER BY fang.fang_schedules.name
 LIMIT 200
