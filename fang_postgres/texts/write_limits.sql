-- $1=p_task_type $2=p_max_running $3=p_max_running_per_key $4=p_rate_interval $5=p_rate_burst $6=p_key_rate_interval $7=p_key_rate_burst $8=p_fair $9=p_weights $10=p_declared $11=p_changed $12=p_by $13=p_reason $14=p_was_there $15=p_settled $16=p_is_change $17=p_was_declared $18=p_was_changed $19=p_was_settling $20=p_notify
WITH inserted AS
(INSERT INTO fang.fang_types (task_type, max_running, max_running_per_key, rate_interval, rate_burst, key_rate_interval, key_rate_burst, fair, weights, declared, changed, changed_at, changed_by, change_reason) SELECT $1::VARCHAR AS task_type, CAST($2::INTEGER AS INTEGER) AS max_running, CAST($3::INTEGER AS INTEGER) AS max_running_per_key, CAST($4::INTERVAL AS INTERVAL) AS rate_interval, CAST($5::INTEGER AS INTEGER) AS rate_burst, CAST($6::INTERVAL AS INTERVAL) AS key_rate_interval, CAST($7::INTEGER AS INTEGER) AS key_rate_burst, CAST($8::BOOLEAN AS BOOLEAN) AS fair, CAST($9::VARCHAR AS JSONB) AS weights, CAST($10::VARCHAR AS JSONB) AS declared, CAST($11::VARCHAR AS JSONB) AS changed, CASE WHEN (CAST($11::VARCHAR AS JSONB) IS NOT NULL) THEN clock_timestamp() END AS changed_at, CASE WHEN (CAST($11::VARCHAR AS JSONB) IS NOT NULL) THEN $12::VARCHAR END AS changed_by, CASE WHEN (CAST($11::VARCHAR AS JSONB) IS NOT NULL) THEN $13::VARCHAR END AS change_reason
WHERE NOT $14::BOOLEAN ON CONFLICT DO NOTHING RETURNING fang.fang_types.task_type),
updated AS
(UPDATE fang.fang_types SET settling_until=CASE WHEN NOT $15::BOOLEAN THEN fang.fang_types.settling_until END, max_running=CAST($2::INTEGER AS INTEGER), max_running_per_key=CAST($3::INTEGER AS INTEGER), rate_interval=CAST($4::INTERVAL AS INTERVAL), rate_burst=CAST($5::INTEGER AS INTEGER), key_rate_interval=CAST($6::INTERVAL AS INTERVAL), key_rate_burst=CAST($7::INTEGER AS INTEGER), fair=CAST($8::BOOLEAN AS BOOLEAN), weights=CAST($9::VARCHAR AS JSONB), declared=CAST($10::VARCHAR AS JSONB), changed=CAST($11::VARCHAR AS JSONB), changed_at=CASE WHEN NOT $16::BOOLEAN THEN fang.fang_types.changed_at WHEN (CAST($11::VARCHAR AS JSONB) IS NOT NULL) THEN clock_timestamp() END, changed_by=CASE WHEN NOT $16::BOOLEAN THEN fang.fang_types.changed_by WHEN (CAST($11::VARCHAR AS JSONB) IS NOT NULL) THEN $12::VARCHAR END, change_reason=CASE WHEN NOT $16::BOOLEAN THEN fang.fang_types.change_reason WHEN (CAST($11::VARCHAR AS JSONB) IS NOT NULL) THEN $13::VARCHAR END WHERE $14::BOOLEAN AND fang.fang_types.task_type = $1::VARCHAR AND fang.fang_types.declared = CAST($17::VARCHAR AS JSONB) AND fang.fang_types.changed IS NOT DISTINCT FROM CAST($18::VARCHAR AS JSONB) AND fang.fang_types.settling_until IS NOT DISTINCT FROM $19::TIMESTAMP WITH TIME ZONE AND (NOT $15::BOOLEAN OR fang.fang_types.settling_until > clock_timestamp()) RETURNING fang.fang_types.task_type),
written AS
(SELECT inserted.task_type AS task_type
FROM inserted UNION ALL SELECT updated.task_type AS task_type
FROM updated),
turn AS
(INSERT INTO fang.fang_turns (task_type) SELECT written.task_type AS task_type
FROM written
WHERE $4::INTERVAL IS NOT NULL ON CONFLICT DO NOTHING RETURNING fang.fang_turns.task_type)
 SELECT EXISTS (SELECT 1
FROM written) AS written, (SELECT count(CASE WHEN $20::BOOLEAN THEN pg_notify('fang_fang', concat(left(written.task_type, 500), ',0,0')) END) AS count_1
FROM written) AS told, (SELECT count(*) AS count_2
FROM turn) AS turns
