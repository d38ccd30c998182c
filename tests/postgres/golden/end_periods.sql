-- $1=p_ids
DELETE FROM fang.fang_uniques WHERE fang.fang_uniques.task_id = ANY (array((SELECT unnest($1::UUID[]) AS unnest_1)))
