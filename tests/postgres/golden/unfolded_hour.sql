-- $1=p_after
WITH RECURSIVE hours AS (
  SELECT (SELECT date_trunc('hour', s.at, 'UTC') FROM "fang".fang_stats s
    WHERE s.span = 60 ORDER BY s.at LIMIT 1) AS at
  UNION ALL
  SELECT (SELECT date_trunc('hour', s.at, 'UTC') FROM "fang".fang_stats s
    WHERE s.span = 60 AND s.at >= h.at + interval '1 hour' ORDER BY s.at LIMIT 1)
  FROM hours h WHERE h.at IS NOT NULL)
SELECT CASE WHEN pg_try_advisory_xact_lock(hashtextextended('fang.fang_stats', 1718514000)) THEN (
  SELECT h.at FROM hours h
  WHERE h.at + interval '1 hour' < now() - CAST($1::INTERVAL AS INTERVAL)
    AND NOT EXISTS (SELECT FROM "fang".fang_stats d WHERE d.span = 3600 AND d.at = h.at)
  ORDER BY h.at LIMIT 1) END AS at
