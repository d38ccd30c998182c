-- $1=p_pool_id $2=p_mode $3=p_host $4=p_pid $5=p_task_types $6=p_kinds $7=p_workers $8=p_lease $9=p_max_crashes
INSERT INTO fang.fang_pools (id, mode, host, pid, task_types, kinds, workers, lease, max_crashes) VALUES ($1::UUID, $2::VARCHAR, $3::VARCHAR, $4::INTEGER, $5::TEXT[], $6::TEXT[], $7::INTEGER, $8::INTERVAL, $9::INTEGER) ON CONFLICT (id) DO NOTHING
