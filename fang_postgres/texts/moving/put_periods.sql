-- $1=p_hashes $2=p_ids $3=p_inserted_at $4=p_until
INSERT INTO fang.fang_uniques (hash, task_id, inserted_at, until) SELECT given.hash, given.task_id, given.inserted_at, coalesce(given.until, CAST('infinity' AS TIMESTAMP WITH TIME ZONE)) AS coalesce_1
FROM unnest($1::TEXT[], $2::UUID[], $3::TIMESTAMP WITH TIME ZONE[], $4::TIMESTAMP WITH TIME ZONE[]) AS given(hash, task_id, inserted_at, until) ON CONFLICT DO NOTHING RETURNING fang.fang_uniques.task_id
