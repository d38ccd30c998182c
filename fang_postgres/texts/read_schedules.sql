-- $1=p_names
WITH first_seen AS
(INSERT INTO fang.fang_schedules (name, last_tick) SELECT name, now() AS now_1
FROM unnest($1::TEXT[]) AS name
WHERE name != ALL (array((SELECT fang.fang_schedules.name
FROM fang.fang_schedules))) ON CONFLICT DO NOTHING RETURNING fang.fang_schedules.name, fang.fang_schedules.last_tick)
 SELECT clock_timestamp() AS now, sighted.name, sighted.last_tick
FROM (SELECT 1 AS one) AS one LEFT OUTER JOIN (SELECT fang.fang_schedules.name AS name, CASE WHEN (fang.fang_schedules.last_tick IS NOT NULL) THEN least(greatest(fang.fang_schedules.last_tick, '0001-01-03 00:00:00+00'::timestamptz), '9999-12-29 00:00:00+00'::timestamptz) END AS last_tick
FROM fang.fang_schedules
WHERE fang.fang_schedules.name = ANY (array((SELECT unnest($1::TEXT[]) AS unnest_1))) UNION ALL SELECT first_seen.name AS name, first_seen.last_tick AS last_tick
FROM first_seen) AS sighted ON true
