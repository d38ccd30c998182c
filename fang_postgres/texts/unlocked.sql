-- $1=p_ids $2=p_pool_id $3=p_attempts
SELECT t.id
FROM fang.fang_tasks AS t
WHERE t.id = ANY (array((SELECT unnest($1::UUID[]) AS unnest_1))) AND t.pool_id = $2::UUID AND CAST(t.state AS TEXT) = 'in_progress' AND ($1::UUID[])[width_bucket(t.id, $1::UUID[])] = t.id AND ($3::BIGINT[])[width_bucket(t.id, $1::UUID[])] = t.attempt FOR NO KEY UPDATE OF t SKIP LOCKED
