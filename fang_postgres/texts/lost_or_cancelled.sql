-- $1=p_pool_id $2=p_ids $3=p_attempts
WITH held AS MATERIALIZED
(SELECT known.id AS id, (SELECT CASE WHEN (fang.fang_tasks.cancel_request IS NULL) THEN '{}'::text[] ELSE ARRAY[fang.fang_tasks.cancel_request ->> 'reason', fang.fang_tasks.cancel_request ->> 'by'] END AS anon_1
FROM fang.fang_tasks
WHERE fang.fang_tasks.id = known.id AND fang.fang_tasks.attempt = known.attempt AND fang.fang_tasks.pool_id = $1::UUID AND CAST(fang.fang_tasks.state AS TEXT) = 'in_progress') AS request
FROM unnest($2::UUID[], $3::BIGINT[]) AS known(id, attempt))
 SELECT held.id, held.request
FROM held
WHERE held.request IS DISTINCT FROM '{}'::text[]
