-- $1=p_keep_minutes $2=p_keep
DELETE FROM "fang".fang_stats
WHERE (span = 60 AND at < date_trunc('hour', now() - CAST($1::INTERVAL AS INTERVAL), 'UTC')) OR (span = 3600 AND at < now() - CAST($2::INTERVAL AS INTERVAL))
RETURNING 1
