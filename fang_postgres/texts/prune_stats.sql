-- $1=p_keep_minutes $2=p_keep
DELETE FROM fang.fang_stats WHERE fang.fang_stats.span = 60 AND fang.fang_stats.at < date_trunc('hour', now() - CAST($1::INTERVAL AS INTERVAL), 'UTC') OR fang.fang_stats.span = 3600 AND fang.fang_stats.at < now() - CAST($2::INTERVAL AS INTERVAL) RETURNING fang.fang_stats.at
