-- $1=p_names $2=p_declared $3=p_again
INSERT INTO fang.fang_schedules (name, last_tick, declared) SELECT class.name, now() AS now_1, CAST(class.declared AS JSONB) AS declared
FROM unnest($1::TEXT[], $2::TEXT[]) AS class(name, declared)
WHERE NOT (EXISTS (SELECT 1
FROM fang.fang_schedules AS there
WHERE there.name = class.name AND (there.declared = CAST(class.declared AS JSONB) OR $3::BOOLEAN AND there.declared IS NOT NULL))) ORDER BY class.name ON CONFLICT (name) DO UPDATE SET declared = excluded.declared WHERE CASE WHEN $3::BOOLEAN THEN fang.fang_schedules.declared IS NULL ELSE fang.fang_schedules.declared IS DISTINCT FROM excluded.declared END
