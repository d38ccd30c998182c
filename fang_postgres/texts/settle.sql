-- $1=p_error_messages $2=p_ids $3=p_states $4=p_charges $5=p_delays $6=p_flags $7=p_error_entries $8=p_lock_wait $9=p_pool_id $10=p_attempts $11=p_notify
WITH settled AS
(UPDATE fang.fang_tasks AS t SET error_message=coalesce(($1::TEXT[])[width_bucket(t.id, $2::UUID[])], t.error_message), state=CAST(($3::TEXT[])[width_bucket(t.id, $2::UUID[])] AS fang.fang_task_state), retries=(t.retries + ($4::INTEGER[])[width_bucket(t.id, $2::UUID[])]), scheduled_at=coalesce(now() + ($5::INTERVAL[])[width_bucket(t.id, $2::UUID[])], t.scheduled_at), updated_at=now(), crashes=CASE WHEN ((($6::INTEGER[])[width_bucket(t.id, $2::UUID[])] & 1) != 0) THEN 0 WHEN ((($6::INTEGER[])[width_bucket(t.id, $2::UUID[])] & 4) != 0) THEN least(t.crashes + 1, 32767) ELSE t.crashes END, pool_id=NULL, claimed_at=NULL, errors=CASE WHEN (($7::TEXT[])[width_bucket(t.id, $2::UUID[])] IS NULL) THEN t.errors ELSE jsonb_path_query_array(t.errors || jsonb_build_array(CAST(($7::TEXT[])[width_bucket(t.id, $2::UUID[])] AS JSONB) || jsonb_build_object('time', now())), '$[last - 9 to last]') END, cancel_request=CASE WHEN ((($6::INTEGER[])[width_bucket(t.id, $2::UUID[])] & 2) != 0) THEN NULL ELSE t.cancel_request END, group_limit=CASE WHEN ((($6::INTEGER[])[width_bucket(t.id, $2::UUID[])] & 1) != 0) THEN NULL ELSE t.group_limit END WHERE t.id = ANY (array((SELECT unnest($2::UUID[]) AS unnest_1
WHERE set_config('lock_timeout', $8::VARCHAR, true) IS NOT NULL))) AND t.pool_id = $9::UUID AND CAST(t.state AS TEXT) = 'in_progress' AND ($2::UUID[])[width_bucket(t.id, $2::UUID[])] = t.id AND ($10::BIGINT[])[width_bucket(t.id, $2::UUID[])] = t.attempt RETURNING t.id, t.task_type, t.priority, CASE WHEN (t.state IN ('new', 'retried')) THEN t.scheduled_at END AS scheduled_at),
woken AS
(SELECT pg_notify('fang_fang', left(wanted.task_type, 500)) AS told
FROM (SELECT DISTINCT settled.task_type AS task_type
FROM settled
WHERE settled.scheduled_at <= clock_timestamp() + CAST('10 s' AS INTERVAL)) AS wanted
WHERE $11::BOOLEAN AND (EXISTS (SELECT 1
FROM fang.fang_pools AS p
WHERE p.waiting AND wanted.task_type = ANY (p.task_types))) UNION ALL SELECT pg_notify('fang_fang', concat_ws(',', left(passed.task_type, 500), passed.priority, passed.first)) AS told
FROM (SELECT settled.task_type AS task_type, settled.priority AS priority, CAST(EXTRACT(epoch FROM min(settled.scheduled_at)) * 1000000 AS BIGINT) AS first
FROM settled
WHERE settled.scheduled_at <= clock_timestamp() GROUP BY settled.task_type, settled.priority) AS passed
WHERE $11::BOOLEAN)
 SELECT settled.id, (SELECT count(woken.told) AS count_1
FROM woken) AS woken
FROM settled
