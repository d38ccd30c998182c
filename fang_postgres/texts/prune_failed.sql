-- $1=p_task_types $2=p_keep $3=p_limit
DELETE FROM fang.fang_tasks AS t WHERE t.id = ANY (array((SELECT oldest.id
FROM unnest($1::TEXT[]) AS of_type(task_type) JOIN LATERAL (SELECT ended.id AS id
FROM fang.fang_tasks AS ended
WHERE ended.state = 'failed' AND ended.task_type = of_type.task_type AND ended.updated_at < now() - $2::INTERVAL ORDER BY ended.updated_at
 LIMIT (SELECT $3::INTEGER AS anon_1) FOR NO KEY UPDATE OF ended SKIP LOCKED) AS oldest ON true
 LIMIT (SELECT $3::INTEGER AS anon_1)))) AND CAST(t.state AS TEXT) = 'failed' AND t.task_type = ANY ($1::TEXT[]) AND t.updated_at < now() - $2::INTERVAL RETURNING t.id
