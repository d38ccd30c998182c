-- $1=p_task_types
DELETE FROM fang.fang_lanes WHERE fang.fang_lanes.task_type = ANY (array((SELECT unnest($1::TEXT[]) AS unnest_1))) AND fang.fang_lanes.tat < clock_timestamp() - interval '1 hour' RETURNING fang.fang_lanes.lane
