-- $1=p_locks $2=p_pool_id $3=p_key $4=p_stopping
WITH mine AS MATERIALIZED
(SELECT CASE WHEN NOT $1::BOOLEAN THEN false WHEN (EXISTS (SELECT 1
FROM pg_locks
WHERE pg_locks.locktype = 'advisory' AND pg_locks.objsubid = 1 AND pg_locks.granted AND pg_locks.database = (SELECT pg_database.oid
FROM pg_database
WHERE pg_database.datname = current_database()) AND pg_locks.pid = pg_backend_pid() AND concat(lpad(to_hex(CAST(pg_locks.classid AS BIGINT)), 8, '0'), lpad(to_hex(CAST(pg_locks.objid AS BIGINT)), 8, '0')) = left(replace(CAST($2::UUID AS TEXT), '-', ''), 16))) THEN true ELSE pg_try_advisory_lock($3::BIGINT) END AS holds),
beaten AS
(UPDATE fang.fang_pools SET beats=(fang.fang_pools.beats + 1), locks=(SELECT mine.holds
FROM mine), stopping=$4::BOOLEAN WHERE fang.fang_pools.id = $2::UUID AND fang.fang_pools.beats > -1 RETURNING fang.fang_pools.id)
 SELECT one.registered, one.server_up, p.id, p.beats, p.locks, left(replace(CAST(p.id AS TEXT), '-', ''), 16) = ANY (array((SELECT concat(lpad(to_hex(CAST(pg_locks.classid AS BIGINT)), 8, '0'), lpad(to_hex(CAST(pg_locks.objid AS BIGINT)), 8, '0')) AS key
FROM pg_locks
WHERE pg_locks.locktype = 'advisory' AND pg_locks.objsubid = 1 AND pg_locks.granted AND pg_locks.database = (SELECT pg_database.oid
FROM pg_database
WHERE pg_database.datname = current_database())))) AS is_locked, CAST(EXTRACT(epoch FROM p.lease) AS DOUBLE PRECISION) AS lease
FROM (SELECT EXISTS (SELECT 1
FROM beaten) AS registered, CAST(EXTRACT(epoch FROM clock_timestamp() - greatest(pg_postmaster_start_time(), pg_last_xact_replay_timestamp())) AS DOUBLE PRECISION) AS server_up) AS one LEFT OUTER JOIN fang.fang_pools AS p ON true
