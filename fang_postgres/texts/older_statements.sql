-- $1=p_since
SELECT count(*) FILTER (WHERE num_nonnulls(pg_catalog.pg_stat_activity.backend_xmin, pg_catalog.pg_stat_activity.backend_xid) > 0 AND pg_catalog.pg_stat_activity.xact_start < $1::TIMESTAMP WITH TIME ZONE) AS older, count(*) FILTER (WHERE pg_catalog.pg_stat_activity.state IS NULL) AS hidden
FROM pg_catalog.pg_stat_activity
WHERE pg_catalog.pg_stat_activity.datname = current_database() AND coalesce(pg_catalog.pg_stat_activity.backend_type, 'client backend') = 'client backend' AND pg_catalog.pg_stat_activity.pid != pg_backend_pid()
