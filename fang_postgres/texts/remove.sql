-- $1=p_ids $2=p_lock_wait $3=p_pool_id $4=p_attempts
DELETE FROM fang.fang_tasks AS t WHERE t.id = ANY (array((SELECT unnest($1::UUID[]) AS unnest_1
WHERE set_config('lock_timeout', $2::VARCHAR, true) IS NOT NULL))) AND t.pool_id = $3::UUID AND CAST(t.state AS TEXT) = 'in_progress' AND ($1::UUID[])[width_bucket(t.id, $1::UUID[])] = t.id AND ($4::BIGINT[])[width_bucket(t.id, $1::UUID[])] = t.attempt RETURNING t.id
