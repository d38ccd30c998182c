-- $1=p_busy $2=p_waiting $3=p_runs $4=p_pool_id
INSERT INTO fang.fang_live (pool_id, at, busy, waiting, runs) SELECT fang.fang_pools.id, clock_timestamp() AS clock_timestamp_1, $1::INTEGER AS anon_1, $2::INTEGER AS anon_2, CAST($3::VARCHAR AS JSONB) AS anon_3
FROM fang.fang_pools
WHERE fang.fang_pools.id = $4::UUID AND fang.fang_pools.beats > -1 ON CONFLICT (pool_id) DO UPDATE SET at = excluded.at, busy = excluded.busy, waiting = excluded.waiting, runs = excluded.runs
