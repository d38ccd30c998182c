-- $1=p_since $2=p_after
WITH first AS
(SELECT CASE WHEN pg_try_advisory_xact_lock(hashtextextended('fang.fang_stats', 1718514000)) THEN (
  SELECT s.at FROM "fang".fang_stats s
  WHERE s.span = 60 AND s.at >= coalesce(CAST($1::TIMESTAMP WITH TIME ZONE AS TIMESTAMP WITH TIME ZONE), '-infinity') AND s.at < now() - CAST($2::INTERVAL AS INTERVAL) AND s.writer > '00000000-0000-0000-0000-000000000000'::uuid
  ORDER BY s.at LIMIT 1) END AS at)
 SELECT first.at
FROM first
