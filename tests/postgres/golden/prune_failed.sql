-- $1=p_keep $2=p_limit
DELETE FROM fang.fang_tasks AS t WHERE t.id = ANY (array((SELECT ended.id
FROM fang.fang_tasks AS ended
WHERE ended.state = 'failed' AND ended.updated_at < now() - $1::INTERVAL ORDER BY ended.updated_at
 LIMIT (SELECT $2::INTEGER AS anon_1) FOR NO KEY UPDATE OF ended SKIP LOCKED))) AND CAST(t.state AS TEXT) = 'failed' AND t.updated_at < now() - $1::INTERVAL RETURNING t.id
