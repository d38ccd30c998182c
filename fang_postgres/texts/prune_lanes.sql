-- $1=p_task_types
DELETE FROM fang.fang_lanes WHERE (fang.fang_lanes.task_type, fang.fang_lanes.lane) IN (SELECT "old".task_type, "old".lane
FROM fang.fang_lanes AS "old"
WHERE "old".task_type = ANY (array((SELECT unnest($1::TEXT[]) AS unnest_1))) AND "old".tat < clock_timestamp() - interval '1 hour' FOR UPDATE SKIP LOCKED) RETURNING fang.fang_lanes.lane
