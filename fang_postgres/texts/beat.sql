-- $1=p_pool_id $2=p_handled $3=p_workers $4=p_locks $5=p_key $6=p_stopping $7=p_runs
WITH removed AS
(DELETE FROM fang.fang_messages WHERE fang.fang_messages.pool_id = $1::UUID AND fang.fang_messages.id = ANY (array((SELECT unnest(CAST($2::TEXT[] AS BIGINT[])) AS unnest_1)))),
mine AS MATERIALIZED
(SELECT CASE WHEN NOT $4::BOOLEAN THEN false WHEN (EXISTS (SELECT 1
FROM pg_locks
WHERE pg_locks.locktype = 'advisory' AND pg_locks.objsubid = 1 AND pg_locks.granted AND pg_locks.database = (SELECT pg_database.oid
FROM pg_database
WHERE pg_database.datname = current_database()) AND pg_locks.pid = pg_backend_pid() AND concat(lpad(to_hex(CAST(pg_locks.classid AS BIGINT)), 8, '0'), lpad(to_hex(CAST(pg_locks.objid AS BIGINT)), 8, '0')) = left(replace(CAST($1::UUID AS TEXT), '-', ''), 16))) THEN true ELSE pg_try_advisory_lock($5::BIGINT) END AS holds),
beaten AS
(UPDATE fang.fang_pools SET workers=coalesce($3::INTEGER, fang.fang_pools.workers), beats=(fang.fang_pools.beats + 1), locks=(SELECT mine.holds
FROM mine), stopping=$6::BOOLEAN, runs=coalesce(CAST($7::VARCHAR AS JSONB), fang.fang_pools.runs) WHERE fang.fang_pools.id = $1::UUID AND fang.fang_pools.beats > -1 RETURNING fang.fang_pools.id)
 SELECT one.registered, one.server_up, p.id, p.beats, p.locks, left(replace(CAST(p.id AS TEXT), '-', ''), 16) = ANY (array((SELECT concat(lpad(to_hex(CAST(pg_locks.classid AS BIGINT)), 8, '0'), lpad(to_hex(CAST(pg_locks.objid AS BIGINT)), 8, '0')) AS key
FROM pg_locks
WHERE pg_locks.locktype = 'advisory' AND pg_locks.objsubid = 1 AND pg_locks.granted AND pg_locks.database = (SELECT pg_database.oid
FROM pg_database
WHERE pg_database.datname = current_database())))) AS is_locked, CAST(EXTRACT(epoch FROM p.lease) AS DOUBLE PRECISION) AS lease, CASE WHEN (p.id = $1::UUID) THEN (SELECT CAST(json_agg(json_build_array(unhandled.id, unhandled.kind, unhandled.body, unhandled.sender)) AS TEXT) AS json_agg_1
FROM (SELECT fang.fang_messages.id AS id, fang.fang_messages.kind AS kind, CAST(fang.fang_messages.body AS TEXT) AS body, fang.fang_messages.sender AS sender
FROM fang.fang_messages
WHERE fang.fang_messages.pool_id = $1::UUID AND fang.fang_messages.id != ALL (array((SELECT unnest(CAST($2::TEXT[] AS BIGINT[])) AS unnest_2))) ORDER BY fang.fang_messages.id
 LIMIT 100) AS unhandled) END AS anon_1
FROM (SELECT EXISTS (SELECT 1
FROM beaten) AS registered, CAST(EXTRACT(epoch FROM clock_timestamp() - greatest(pg_postmaster_start_time(), pg_last_xact_replay_timestamp())) AS DOUBLE PRECISION) AS server_up) AS one LEFT OUTER JOIN fang.fang_pools AS p ON true
