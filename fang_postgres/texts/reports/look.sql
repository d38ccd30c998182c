--
WITH holders AS MATERIALIZED
(SELECT concat(lpad(to_hex(CAST(pg_locks.classid AS BIGINT)), 8, '0'), lpad(to_hex(CAST(pg_locks.objid AS BIGINT)), 8, '0')) AS key, CAST(EXTRACT(epoch FROM clock_timestamp() - session.state_change) AS DOUBLE PRECISION) AS seconds
FROM pg_locks JOIN pg_stat_get_activity(NULL) AS session ON session.pid = pg_locks.pid
WHERE pg_locks.locktype = 'advisory' AND pg_locks.objsubid = 1 AND pg_locks.granted AND pg_locks.database = (SELECT pg_database.oid
FROM pg_database
WHERE pg_database.datname = current_database()))
 SELECT one.registered, one.server_up, p.id, p.beats, p.locks, left(replace(CAST(p.id AS TEXT), '-', ''), 16) = ANY (array((SELECT concat(lpad(to_hex(CAST(pg_locks.classid AS BIGINT)), 8, '0'), lpad(to_hex(CAST(pg_locks.objid AS BIGINT)), 8, '0')) AS key
FROM pg_locks
WHERE pg_locks.locktype = 'advisory' AND pg_locks.objsubid = 1 AND pg_locks.granted AND pg_locks.database = (SELECT pg_database.oid
FROM pg_database
WHERE pg_database.datname = current_database())))) AS is_locked, CAST(EXTRACT(epoch FROM p.lease) AS DOUBLE PRECISION) AS lease, (SELECT min(holders.seconds) AS min_1
FROM holders
WHERE holders.key = left(replace(CAST(p.id AS TEXT), '-', ''), 16)) AS quiet
FROM (SELECT false AS registered, CASE WHEN pg_is_in_recovery() THEN 0 ELSE CAST(EXTRACT(epoch FROM clock_timestamp() - greatest(pg_postmaster_start_time(), pg_last_xact_replay_timestamp())) AS DOUBLE PRECISION) END AS server_up) AS one LEFT OUTER JOIN fang.fang_pools AS p ON true
