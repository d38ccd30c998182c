-- $1=p_after
WITH first AS
(SELECT CASE WHEN pg_try_advisory_xact_lock(hashtextextended('fang.fang_stats', 1718514000)) THEN (
  SELECT h.at FROM generate_series(
    (SELECT date_trunc('hour', greatest(min(s.at), now() - interval '4 days'), 'UTC')
     FROM "fang".fang_stats s WHERE s.span = 60),
    now() - CAST($1::INTERVAL AS INTERVAL) - interval '1 hour', interval '1 hour') h(at)
  WHERE EXISTS (SELECT FROM "fang".fang_stats s
      WHERE s.span = 60 AND s.at >= h.at AND s.at < h.at + interval '1 hour')
    AND NOT EXISTS (SELECT FROM "fang".fang_stats d WHERE d.span = 3600 AND d.at = h.at)
  ORDER BY h.at LIMIT 1) END AS at)
 SELECT first.at
FROM first
