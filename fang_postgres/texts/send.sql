-- $1=p_notify $2=p_sender $3=p_kind $4=p_body $5=p_pool_id
INSERT INTO fang.fang_messages (pool_id, sender, kind, body) SELECT fang.fang_pools.id, $2::VARCHAR AS anon_1, $3::VARCHAR AS anon_2, CAST($4::VARCHAR AS JSONB) AS anon_3
FROM fang.fang_pools
WHERE fang.fang_pools.id = $5::UUID AND fang.fang_pools.beats > -1 RETURNING fang.fang_messages.id, CASE WHEN $1::BOOLEAN THEN pg_notify('fang_fang', concat('!', fang.fang_messages.pool_id)) END AS told
