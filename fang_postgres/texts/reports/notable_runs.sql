--
SELECT p.id, clock_timestamp() AS now, CAST(p.runs AS TEXT) AS runs
FROM fang.fang_pools AS p
WHERE p.runs != CAST('{}' AS JSONB) ORDER BY p.started_at, p.id
